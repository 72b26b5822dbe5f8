"""Measuring runs after the fact, from their checkpoints."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan.build import find_device
from gan.commands.generate import load_generator
from gan.config.compose import compose
from gan.data import Data
from gan.errors import NotFinite, UserError
from gan.files import write_text
from gan.metrics.measures import Measures
from gan.run import checkpoint
from gan.run.directory import CONFIG_FILE, read_config
from gan.run.evaluation import generate, latents, measures
from gan.run.result import environment

log = logging.getLogger(__name__)

FLOOR = "real training samples"
"""What stands in for a run where the floor of its metrics is given."""


class Measured(NamedTuple):
    name: str
    step: int | None
    weights: str
    values: dict[str, float]


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run directories among paths and, for those of sweeps, inside them, less runs without
    a checkpoint: of a sweep that goes on, some have just begun.

    Raises:
        UserError: there is none at a path.
    """
    return [run_dir for path in paths for run_dir in _runs_at(path)]


def _runs_at(path: Path) -> list[Path]:
    if (path / CONFIG_FILE).exists():
        return [path]
    inside = sorted(config.parent for config in path.glob(f"*/{CONFIG_FILE}"))
    if not inside:
        raise UserError(f"{path}: neither a run's directory nor one with runs in it")
    begun = [run_dir for run_dir in inside if checkpoint.paths(run_dir)]
    if not begun:
        raise UserError(f"{path}: none of its {len(inside)} runs has a checkpoint yet")
    if left_out := len(inside) - len(begun):
        log.warning("%s: %d of its %d runs have no checkpoint", path, left_out, len(inside))
    return begun


def settings_of(metrics: str, samples: int | None, split: str | None) -> DictConfig:
    """The options of a `metrics` group, with another number of samples or split if given.

    Raises:
        UserError: there is no such group or value.
    """
    overrides = [f"metrics={metrics}"]
    overrides += [f"metrics.samples={samples}"] if samples is not None else []
    overrides += [f"metrics.split={split}"] if split is not None else []
    settings: DictConfig = compose(*overrides).metrics
    if not settings.names:
        raise UserError(f"metrics={metrics}: measures nothing")
    return settings


def measure_runs(
    run_dirs: Sequence[Path], settings: DictConfig, *, name: str, weights: str, device: str
) -> Iterator[Measured]:
    """Measure the newest checkpoint of each run and write `metrics-NAME.json` beside it.

    Training may go on meanwhile. What real training samples would get, the floor of these
    metrics, comes after the first run of each data set where the split is "test".

    Raises:
        UserError: a run has no checkpoint or gives NaN, a metric does not fit its data, or a file
            cannot be written.
    """
    target = find_device(device)
    for run_dir in run_dirs:
        load_generator(run_dir, weights)
    known: dict[str, tuple[Measures, dict[str, float] | None]] = {}
    for run_dir in run_dirs:
        cfg = read_config(run_dir)
        key = OmegaConf.to_yaml(cfg.data)
        first = key not in known
        if first:
            data: Data = instantiate(cfg.data, _partial_=True)().to(target)
            measure = measures(settings, data)
            known[key] = measure, _floor(measure, data, settings)
        measure, floor = known[key]
        trained = load_generator(run_dir, weights)
        z = latents(settings.samples, trained.latent_dim, cfg.seed, "evaluation").to(target)
        labels = measure.like_real(len(z)) if trained.classes else None
        try:
            values = measure(generate(trained.network.to(target), z, labels))
        except NotFinite as error:
            raise UserError(f"{run_dir}: at step {trained.step} {error}") from error
        facts: dict[str, Any] = {"step": trained.step, "weights": trained.weights}
        facts |= measure.facts | {"values": values, "floor": floor} | environment()
        _write(run_dir / f"metrics-{name}.json", facts)
        yield Measured(str(run_dir), trained.step, trained.weights, values)
        if first and floor is not None:
            yield Measured(FLOOR, None, "", floor)


def _write(path: Path, facts: dict[str, Any]) -> None:
    try:
        write_text(path, json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error


def _floor(measure: Measures, data: Data, settings: DictConfig) -> dict[str, float] | None:
    if settings.split != "test":
        return None
    available = data.real_size("train")
    count = settings.samples if available is None else min(settings.samples, available)
    return measure(data.real("train", count)[0])
