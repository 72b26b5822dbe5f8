"""Another length for a run that exists: it goes on as if it had had that length from the start.

A run is refused if another length would have given it other learning rates so far. Nothing else in
a recipe knows the length.
"""

import logging
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan.build import build_schedules
from gan.config.curves import unreached_curves
from gan.config.overrides import as_override
from gan.errors import UserError
from gan.run.directory import (
    CONFIG_FILE,
    LENGTH,
    read_config,
    store_length,
    sweep_name,
)
from gan.run.provenance import note_extension
from gan.run.result import FINISHED, Status, read_result, write_result

log = logging.getLogger(__name__)


def with_length(
    cfg: DictConfig, *, max_steps: int | None = None, max_epochs: int | None = None
) -> DictConfig:
    """Return a configuration with another length, of which one is given.

    Raises:
        UserError: both are given.
    """
    if max_steps is not None and max_epochs is not None:
        raise UserError(
            f"trainer.max_steps={max_steps} trainer.max_epochs={max_epochs}: give one of them"
        )
    longer = OmegaConf.merge(cfg, {"trainer": {"max_steps": max_steps, "max_epochs": max_epochs}})
    assert isinstance(longer, DictConfig)
    return longer


def length_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the one of `max_steps` and `max_epochs` that a configuration sets, by its name."""
    names = [key.partition(".")[2] for key in LENGTH]
    return {name: cfg.trainer[name] for name in names if cfg.trainer[name] is not None}


def total_steps(cfg: DictConfig, per_epoch: int) -> int:
    """Return the step at which a run ends.

    Args:
        per_epoch: the steps of one pass over the data.
    """
    steps, epochs = cfg.trainer.max_steps, cfg.trainer.max_epochs
    return int(epochs * per_epoch if steps is None else steps)


def doubts_of_length(cfg: DictConfig, total_steps: int) -> list[str]:
    """Return warnings about what a run is too short for, one line each."""
    found = unreached_curves(cfg, total_steps)
    if total_steps < cfg.trainer.n_critic:
        found.append(
            f"trainer.n_critic={cfg.trainer.n_critic}: the generator is updated for the first time "
            f"at that step, and the run ends at step {total_steps}"
        )
    return found


def gets_other_length(run_dir: Path, cfg: DictConfig) -> bool:
    """Return whether a configuration has another length than the run in a directory.

    Raises:
        UserError: the run may have no other length.
    """
    if not (run_dir / CONFIG_FILE).exists():
        return False
    if length_settings(read_config(run_dir)) == length_settings(cfg):
        return False
    asked = _as_typed(cfg)
    if sweep := sweep_name(run_dir):
        raise UserError(
            f"{asked}: {run_dir} is a run of the sweep {sweep}, whose plan has another length; "
            "copy the run to a directory outside of the sweep, and resume the copy"
        )
    result = read_result(run_dir)
    if result and result["status"] == Status.DIVERGED:
        raise UserError(
            f"{asked}: {run_dir} has diverged at step {result['steps']}, so it ends there"
        )
    if result and result["status"] == Status.STOPPED:
        raise UserError(
            f"{asked}: {run_dir} has stopped at step {result['steps']}, as its objective did not "
            "improve (trainer.patience), and a longer run would have stopped there too"
        )
    return True


def check_length(run_dir: Path, cfg: DictConfig, step: int, per_epoch: int) -> None:
    """Check that a run can go on to the length of a configuration.

    Args:
        step: the step after which the run goes on.
        per_epoch: the steps of one pass over the data.

    Raises:
        UserError: it has made as many steps, or would have made other ones.
    """
    asked, old = _as_typed(cfg), read_config(run_dir)
    if (total := total_steps(cfg, per_epoch)) <= step:
        epochs = "" if cfg.trainer.max_epochs is None else f" ({total} steps)"
        raise UserError(
            f"{asked}{epochs}: must be more than the {step} steps that {run_dir} has made"
        )
    before, after = (build_schedules(one, total_steps(one, per_epoch)) for one in (old, cfg))
    for name, earlier in product(after, range(step)):
        if before[name](earlier) != after[name](earlier):
            raise UserError(
                f"{asked}: the schedule of {name.replace('/', '.')} follows the length of a run, "
                f"and step {earlier + 1} would have had another value; train a new run, which may "
                f"start from these weights by trainer.init_from={run_dir}"
            )


def reopen_result(run_dir: Path) -> None:
    """Let a finished run count as one that is interrupted."""
    result = read_result(run_dir)
    if result and result["status"] in FINISHED:
        write_result(run_dir, result | {"status": Status.INTERRUPTED.value})


def store_other_length(
    run_dir: Path, cfg: DictConfig, provenance: dict[str, Any], step: int
) -> None:
    """Write the length of a configuration into the files of a run that exists.

    A process that is killed leaves a run that can go on: with the old length, until the new one is
    in config.yaml.

    Args:
        provenance: the content of provenance.json, to which the old length is added.
        step: the step after which the run goes on.
    """
    old = read_config(run_dir)
    note_extension(run_dir, provenance, {"step": step, **length_settings(old)})
    store_length(run_dir, cfg)
    log.info("%s: goes on to %s, and had %s", run_dir, _as_typed(cfg), _as_typed(old))


def _as_typed(cfg: DictConfig) -> str:
    settings = length_settings(cfg).items()
    return " ".join(f"trainer.{name}={as_override(value)}" for name, value in settings)
