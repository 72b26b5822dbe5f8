"""Train one GAN, or a sweep of them with -m: gan train [KEY=VALUE ...]"""

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from gan.commands.command_line import run_with_hydra
from gan.commands.processes import on_all_processes
from gan.config.compose import chosen_options, source_words
from gan.config.loader import as_given
from gan.errors import Diverged
from gan.run.directory import read_config
from gan.run.result import Status, read_result
from gan.sweep import SWEEP_FILE
from gan.system.startup import fast_imports

log = logging.getLogger(__name__)


def main() -> None:
    """Run the command line."""
    on_all_processes(lambda: run_with_hydra(train))


def train(cfg: DictConfig) -> float:
    """Train one run in the directory that Hydra chose, and return its objective."""
    # torch takes seconds to import. Help, a printed configuration and errors need none of it.
    with fast_imports():
        from gan.train import run

    hydra = HydraConfig.get()
    words = source_words(hydra)
    if hydra.mode is RunMode.MULTIRUN and (Path(hydra.sweep.dir) / SWEEP_FILE).exists():
        from gan.sweep.directory import read_sweep

        # For a launcher of another package, this run was composed from the sweep's copies of the
        # YAML files. The places of the originals are kept with it.
        sweep = read_sweep(Path(hydra.sweep.dir))
        words = sweep.sources if sweep else []
    run_dir = Path(hydra.runtime.output_dir)
    objective = run(
        cfg,
        run_dir,
        overrides=[*words, *as_given(hydra.overrides.task)],
        choices=chosen_options(hydra),
    )
    if hydra.mode is RunMode.RUN:
        conclude(run_dir)
    return objective


def conclude(run_dir: Path) -> None:
    """Tell what can be done with a run that has ended.

    Raises:
        Diverged: the run diverged. The message says why it may have, and what to try.
    """
    from gan.run.notices import divergence, next_steps

    cfg, result = read_config(run_dir), read_result(run_dir)
    if result and result["status"] == Status.DIVERGED:
        raise Diverged(divergence(run_dir, cfg, result))
    of_sweep = (run_dir.parent / SWEEP_FILE).exists()
    log.info("%s", next_steps(run_dir, cfg, of_sweep=of_sweep))
