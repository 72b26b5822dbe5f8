"""Continue an interrupted run or sweep: gan resume DIR [device=cpu]

A run continues from its last checkpoint; a finished one stays as it is. A sweep runs what is left
of its plan.

device=cpu           continue on another device: auto, cpu, cuda, cuda:N or mps
retry_failed=true    run the failed runs of a sweep again
n_jobs=2             train so many runs of a sweep at the same time
restart=true         begin a run again at its first step, without what it has recorded and saved
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from gan.commands import train
from gan.commands.command_line import run_command
from gan.config.overrides import as_override
from gan.errors import PrintableFormatter, UserError
from gan.invocation import command_line
from gan.run.directory import read_trusted_config
from gan.startup import fast_imports
from gan.sweep import SWEEP_FILE
from gan.sweep.directory import JOBS_FILE


@dataclass
class Options:
    """Options of `gan resume`."""

    device: str | None = None
    retry_failed: bool = False
    n_jobs: int | None = None
    restart: bool = False


def main() -> None:
    """Run the command line."""
    run_command(resume, Options, trains=True)


def resume(paths: list[Path], options: Options) -> None:
    """Continue the run or the sweep in a directory.

    Raises:
        UserError: the directory holds neither, or it cannot be continued.
        Diverged: the run diverged.
        JobsFailed: some runs of a sweep failed.
        Interrupted: SIGINT or SIGTERM came; it can be continued again.
    """
    if len(paths) != 1:
        raise UserError(f"usage: {command_line('resume')} DIR [device=cpu] [retry_failed=true]")
    (path,) = paths
    if (path / SWEEP_FILE).exists():
        if options.restart:
            raise UserError(f"restart=true: begins one run again, and {path} is a sweep")
        _resume_sweep(path, options)
        return
    if (path / JOBS_FILE).exists():
        problem = "is missing; restore it, or repeat the command that began the sweep"
        raise UserError(f"{path / SWEEP_FILE}: {problem}")
    cfg = read_trusted_config(path)
    if options.device is not None:
        OmegaConf.update(cfg, "device", options.device)
    # torch takes seconds to import. Help and mistakes on the command line need none of it.
    with fast_imports():
        from gan.run.records import forget
        from gan.train import run

    console = logging.StreamHandler(sys.stdout)
    # A run's log file takes more than the console.
    console.setLevel(logging.INFO)
    console.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console])
    if options.restart:
        forget(path)
    run(cfg, path)
    train.conclude(path)


def _resume_sweep(path: Path, options: Options) -> None:
    # Needs numpy, which a run does not need at this point.
    from gan.sweep.sweep import resume_sweep, search_command

    if arguments := search_command(path):
        # The settings of a search decide which points come next, and its command line has them.
        settings = {
            "device": options.device,
            "hydra.launcher.n_jobs": options.n_jobs,
            "sweep.retry_failed": options.retry_failed or None,
        }
        asked = {key: value for key, value in settings.items() if value is not None}
        sys.argv[1:] = [*arguments, *(f"{key}={as_override(v)}" for key, v in asked.items())]
        train.main()
    else:
        resume_sweep(
            path,
            retry_failed=options.retry_failed,
            device=options.device,
            n_jobs=options.n_jobs,
        )
