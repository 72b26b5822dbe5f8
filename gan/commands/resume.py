"""Continue an interrupted run or sweep: gan resume DIR [trainer.max_steps=30000]

A run continues from its last checkpoint; a finished one stays as it is, unless it gets a greater
length. A sweep runs what is left of its plan. One that a job of a cluster drives is followed.
"""

import logging
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from omegaconf import OmegaConf

from gan.commands import train
from gan.commands.command_line import run_command
from gan.commands.help import DEVICES, option
from gan.commands.processes import on_all_processes
from gan.config.overrides import as_override
from gan.config.schema import Config, LocalLauncher
from gan.config.values import broken_limit, shown
from gan.distributed.processes import current_processes, refused_sweep
from gan.errors import PrintableFormatter, UserError
from gan.run.directory import read_trusted_config
from gan.sweep import SWEEP_FILE
from gan.sweep.directory import JOBS_FILE
from gan.system.invocation import command_line
from gan.system.startup import fast_imports


@dataclass
class Options:
    """Options of `gan resume`."""

    device: str | None = option(None, f"continue on another device: {DEVICES}")
    retry_failed: bool = option(False, "run the failed runs of a sweep again")
    n_jobs: int | None = option(
        None,
        "runs of a sweep to train at the same time; null keeps the sweep's number",
    )
    detach: bool = option(
        False, "let a job of the sweep's Slurm or Ray cluster drive it, and return at once"
    )
    stop: bool = option(
        False, "end a sweep that a job of the cluster drives, with a checkpoint of each run"
    )
    restart: bool = option(
        False,
        "begin a run again at its first step, without what it has recorded and saved",
    )
    max_steps: int | None = option(
        None,
        "train a run to this step, as if it had had this length from the start",
        name="trainer.max_steps",
    )
    max_epochs: int | None = option(
        None, "the same, in passes over the data", name="trainer.max_epochs"
    )


def main() -> None:
    """Run the command line."""
    on_all_processes(lambda: run_command(resume, Options, trains=True))


def resume(paths: list[Path], options: Options) -> None:
    """Continue the run or the sweep in a directory.

    Raises:
        UserError: the directory holds neither, or it cannot be continued.
        Diverged: the run diverged.
        JobsFailed: some runs of a sweep failed.
        Interrupted: SIGINT or SIGTERM came; it can be continued again.
    """
    if len(paths) != 1:
        raise UserError(
            f"usage: {command_line('resume')} DIR [trainer.max_steps=30000] [device=cpu]"
        )
    (path,) = paths
    for name, schema in (("device", Config), ("n_jobs", LocalLauncher)):
        (limits,) = (field.metadata for field in fields(schema) if field.name == name)
        value = getattr(options, name)
        if value is not None and (problem := broken_limit(value, limits)):
            raise UserError(f"{name}={shown(value)}: must {problem}")
    lengths = {"max_steps": options.max_steps, "max_epochs": options.max_epochs}
    length = {key: value for key, value in lengths.items() if value is not None}
    asked = " ".join(f"trainer.{key}={value}" for key, value in length.items())
    if (path / SWEEP_FILE).exists():
        if processes := current_processes():
            raise UserError(refused_sweep(str(path), processes.size))
        if options.restart:
            raise UserError(f"restart=true: begins one run again, and {path} is a sweep")
        if length:
            raise UserError(
                f"{asked}: the runs of a sweep have the length of its plan; repeat its command "
                f"with {asked} and another hydra.sweep.dir, or copy a run out of {path} and resume "
                "the copy"
            )
        _resume_sweep(path, options)
        return
    if (path / JOBS_FILE).exists():
        problem = "is missing; restore it, or repeat the command that began the sweep"
        raise UserError(f"{path / SWEEP_FILE}: {problem}")
    of_sweeps = ("n_jobs", "retry_failed", "detach", "stop")
    for name in of_sweeps:
        if (value := getattr(options, name)) is not None and value is not False:
            raise UserError(f"{name}={as_override(value)}: is about a sweep, and {path} is a run")
    if length and options.restart:
        raise UserError(f"restart=true {asked}: give one of them, or train a new run")
    cfg = read_trusted_config(path)
    if options.device is not None:
        OmegaConf.update(cfg, "device", options.device)
    # torch takes seconds to import. Help and mistakes on the command line need none of it.
    with fast_imports():
        from gan.run.length import with_length
        from gan.train import run

    console = logging.StreamHandler(sys.stdout)
    # A run's log file takes more than the console.
    console.setLevel(logging.INFO)
    console.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[console])
    cfg = with_length(cfg, **length) if length else cfg
    run(cfg, path, extend=bool(length), restart=options.restart)
    train.conclude(path)


def _resume_sweep(path: Path, options: Options) -> None:
    # Needs numpy, which a run does not need at this point.
    from gan.sweep.detached import can_detach, follow, living_controller, stop
    from gan.sweep.sweep import SETTINGS_OF_RESUME, report_end, resume_sweep, search_command

    if options.detach and options.stop:
        raise UserError("detach=true stop=true: give one of them")
    if name := living_controller(path):
        given = [
            f"{key}={as_override(getattr(options, key))}"
            for key in ("device", "n_jobs", "retry_failed", "detach")
            if getattr(options, key)
        ]
        if given:
            raise UserError(
                f"{given[0]}: {name} drives this sweep; end it first by: "
                f"{command_line('resume', path, 'stop=true')}"
            )
        if options.stop:
            stop(path, name)
            return
        if follow(path, name) != 0:
            # It was stopped, or some runs failed. Another command may take up what is left.
            report_end(path, name)
            return
    elif options.stop:
        raise UserError(f"stop=true: no job of a cluster drives {path}")
    if arguments := search_command(path):
        # The settings of a search decide which points come next, and its command line has them.
        values = (
            options.device,
            options.n_jobs,
            options.retry_failed or None,
            # Whoever takes up a detached search drives it.
            options.detach or (False if can_detach(path) else None),
        )
        settings = dict(zip(SETTINGS_OF_RESUME, values, strict=True))
        asked = {key: value for key, value in settings.items() if value is not None}
        sys.argv[1:] = [*arguments, *(f"{key}={as_override(v)}" for key, v in asked.items())]
        train.main()
    else:
        resume_sweep(
            path,
            retry_failed=options.retry_failed,
            device=options.device,
            n_jobs=options.n_jobs,
            detach=options.detach,
        )
