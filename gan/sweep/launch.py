"""From a command line, or a sweep's directory, to finished runs."""

import hashlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import check_ranges
from gan.errors import Interrupted, JobsFailed, UserError
from gan.launchers.local import LocalPlaces
from gan.launchers.pool import Places
from gan.launchers.ray import RayPlaces
from gan.launchers.slurm import SlurmPlaces
from gan.launchers.vectorized import VectorizedPlaces
from gan.run.result import FINISHED, objective
from gan.run.signals import deferred_stop
from gan.sweep.composer import Composer, save_sources, saved_loader
from gan.sweep.directory import Sweep, owned, read_sweep, with_free_keys
from gan.sweep.naming import name_of_point
from gan.sweep.plan import Plan, Point, make_plan, refuse_conflict
from gan.sweep.report import (
    Display,
    console,
    print_failures,
    print_plan,
    print_points,
    print_runs,
)
from gan.sweep.schedule import Limits, Outcome, Runner

Execute = Callable[[Sweep, list[str]], None]
"""Runs jobs of a sweep that have something left to do, given their names."""

PLACES: dict[str, Callable[[dict[str, Any]], Places]] = {
    "LocalLauncher": LocalPlaces,
    "VectorizedLauncher": VectorizedPlaces,
    "SlurmLauncher": SlurmPlaces,
    "RayLauncher": RayPlaces,
}
"""By the name of the launcher's class."""


def launch(
    master: DictConfig, loader: ConfigLoader, points: Sequence[Point], execute: Execute
) -> list[JobReturn]:
    """Plan the points in `hydra.sweep.dir`, or find them planned there, and run what is left.

    Args:
        master: the configuration that Hydra composed for the whole sweep.
        loader: composes that of each job.
        points: the task overrides of each, `sweep.*` among them or not.

    Returns:
        One for each point, with the median objective over its seeds; none for a dry run.

    Raises:
        UserError: the sweep cannot be planned; no run has started and nothing is left behind.
        Interrupted: SIGINT or SIGTERM came, and the sweep can be resumed.
    """
    path = Path(str(master.hydra.sweep.dir))
    check_ranges(master.sweep, "sweep.")
    points = [
        [text for text in point if not text.startswith(("sweep.", "sweep="))] for point in points
    ]
    read_sweep(path)
    if master.sweep.dry_run:
        sweep, names = _planned(path, master, loader, points)
        _print_plan(sweep, [name for point in names for name in point], master)
        return []
    with owned(path):
        sweep, names = _planned(path, master, loader, points)
        asked = list(dict.fromkeys(name for point in names for name in point))
        if (same := sum(map(len, names)) - len(asked)) > 0:
            console().print(f"{same} of the points are the same run as another one")
        _run(sweep, asked, execute, retry_failed=master.sweep.retry_failed)
        if master.sweep.seeds > 1:
            print_points(
                [(name_of_point(jobs), _objectives(sweep, jobs)) for jobs in names],
                sweep.jobs[asked[0]].config["metrics"]["objective"],
            )
        failed = failures(sweep, asked)
        return [
            _returned(sweep, point, jobs, failed) for point, jobs in zip(points, names, strict=True)
        ]


def resume(
    path: Path, *, retry_failed: bool, device: str | None = None, n_jobs: int | None = None
) -> None:
    """Run what is left of a sweep, as it was planned.

    Raises:
        UserError: the directory holds no sweep, or one that another launcher ran.
        JobsFailed: some runs failed.
        Interrupted: SIGINT or SIGTERM came, and the sweep can be resumed.
    """
    if read_sweep(path) is None:
        raise UserError(f"{path}: not a sweep directory")
    with owned(path):
        sweep = read_sweep(path)
        assert sweep is not None
        target = sweep.launcher["_target_"]
        assert not sweep.search, "a search goes on with its command line"
        if target.rpartition(".")[2] not in PLACES:
            raise UserError(
                f"{path}: ran with {target}; to go on, repeat its command line with "
                f"hydra.sweep.dir={path}"
            )
        settings = dict(sweep.launcher)
        if n_jobs is not None:
            settings["n_jobs"] = n_jobs
        if device is not None:
            for name, job in sweep.jobs.items():
                sweep.jobs[name] = replace(job, config=job.config | {"device": device})
        _run(sweep, list(sweep.jobs), in_pool(settings), retry_failed=retry_failed)
        if failed := failures(sweep, list(sweep.jobs)):
            raise failed


def search_command(path: Path) -> list[str]:
    """The command line that goes on with a search; empty for a sweep of another kind.

    Raises:
        UserError: the directory holds no sweep.
    """
    sweep = read_sweep(path)
    if sweep is None or not sweep.search:
        return []
    own = [text for text in sweep.commands[-1]["arguments"] if "hydra.sweep.dir=" not in text]
    return [*own, f"hydra.sweep.dir={path}"]


def places(settings: dict[str, Any]) -> Places:
    """Where a launcher with these settings runs jobs; this machine for those of other packages."""
    kind = str(settings["_target_"]).rpartition(".")[2]
    return PLACES.get(kind, LocalPlaces)(settings)


def in_pool(settings: dict[str, Any]) -> Execute:
    """Runs jobs in the pool of a launcher with these settings.

    Raises:
        UserError: what the launcher needs is not installed.
    """
    where = places(settings)
    where.check()

    def execute(sweep: Sweep, names: list[str]) -> None:
        first = sweep.jobs[names[0]].config
        assert sweep.threads is not None
        limits = Limits(settings["retries"], settings["timeout"], settings["max_failures"])
        finished = [sweep.status(name) for name in sweep.jobs if name not in set(names)]
        done = [objective(result) for status, result in finished if result and status in FINISHED]
        display = Display(len(done) + len(names), done, first["metrics"]["objective"])
        count = where.count(first["device"], sweep.threads)
        console().print(
            f"{sweep.path}: {len(names)} to run, {len(done)} done before; "
            + (f"{min(count, len(names))} at a time, " if count else "")
            + f"{sweep.threads} threads to a process",
            soft_wrap=True,
        )
        pool = where.pool(sweep, names)
        runner = Runner(sweep, pool, limits)
        left = len(names)
        try:
            with deferred_stop() as stop, display.live():
                for name in names:
                    runner.submit(sweep.jobs[name])
                for event in runner.events(stop):
                    display.follow(event)
                    if isinstance(event, Outcome) and event.status != "interrupted":
                        left -= 1
        except KeyboardInterrupt as error:
            raise stopped(sweep.path, error, f"{left} of {len(names)} runs") from None
        finally:
            pool.close()

    return execute


def stopped(path: Path, error: KeyboardInterrupt, left: str) -> Interrupted:
    """What to raise where a sweep was told to stop with that much left."""
    first = isinstance(error, Interrupted)
    how = str(error) if first else "SIGINT, the second one"
    return Interrupted(
        f"{path}: stopped by {how} with {left} left; "
        f"continue with: python scripts/resume.py {path}",
        exit_code=error.exit_code if isinstance(error, Interrupted) else 130,
    )


def through(launcher: Callable[[ConfigLoader], Launcher], loader: ConfigLoader) -> Execute:
    """Runs jobs by a launcher that knows nothing of sweep directories.

    Args:
        launcher: makes one that composes by the given loader.
        loader: Hydra's own.
    """

    def execute(sweep: Sweep, names: list[str]) -> None:
        saved = saved_loader(loader, sweep.path / Sweep.SOURCES)
        overrides = [
            [*sweep.jobs[name].overrides, f"hydra.sweep.subdir='{name}'"] for name in names
        ]
        for name in names:
            sweep.forget_failure(name)
        returned = launcher(saved).launch(overrides, initial_job_idx=0)
        for name, job in zip(names, returned, strict=True):
            if job.status == JobStatus.FAILED:
                sweep.record_failure(name, str(job._return_value))

    return execute


def failures(sweep: Sweep, names: Sequence[str]) -> JobsFailed | None:
    """What to raise where not all of these jobs finished."""
    statuses = [sweep.status(name)[0] for name in names]
    failed = statuses.count("failed")
    left = sum(status not in (*FINISHED, "failed") for status in statuses)
    if not failed and not left:
        return None
    also = f" and {left} were not run to the end" if left else ""
    return JobsFailed(
        f"{sweep.path}: {failed} of {len(names)} runs failed{also}; once the cause is gone: "
        f"python scripts/resume.py {sweep.path} retry_failed=true"
    )


def raise_failure(returned: Sequence[JobReturn]) -> None:
    """
    Raises:
        JobsFailed: not all of what `launch` ran finished.
    """
    for job in returned:
        if job.status == JobStatus.FAILED:
            raise job._return_value


def _run(sweep: Sweep, names: list[str], execute: Execute, *, retry_failed: bool) -> None:
    if pending := sweep.pending(names, retry_failed=retry_failed):
        execute(sweep, pending)
    report(sweep, names)


def report(sweep: Sweep, names: list[str]) -> None:
    """Print a table of these runs, and why any of them failed."""
    if not names:
        return
    rows = [(name, *sweep.status(name)) for name in names]
    print_runs(rows, sweep.jobs[names[0]].config["metrics"]["objective"])
    print_failures(
        (name, result.get("error"), sweep.log(name))
        for name, status, result in rows
        if result and status == "failed"
    )


def _planned(
    path: Path, master: DictConfig, loader: ConfigLoader, points: Sequence[Point]
) -> tuple[Sweep, list[list[str]]]:
    """The sweep with these points in it, saved unless this is a dry run, and their jobs."""
    sweep = read_sweep(path)
    seeds, dry_run = master.sweep.seeds, master.sweep.dry_run
    request = hashlib.sha256(json.dumps([points, seeds]).encode()).hexdigest()
    launcher = OmegaConf.to_container(master.hydra.launcher, resolve=True)
    assert isinstance(launcher, dict)
    # The same command again is not even composed: it means what it meant.
    known = next((c for c in sweep.commands if c["request"] == request), None) if sweep else None
    if sweep and known:
        sweep.launcher = {str(key): value for key, value in launcher.items()}
        if not dry_run:
            sweep.save()
        return sweep, known["jobs"]
    kept = nullcontext(str(path)) if sweep or not dry_run else TemporaryDirectory()
    with kept as folder:
        sources = Path(folder, Sweep.SOURCES)
        if sweep is None:
            save_sources(loader, sources)
        composer = Composer(saved_loader(loader, sources), master)
        swept = _swept(composer, master) | set(sweep.swept if sweep else ())
        plan = make_plan(
            composer,
            points,
            swept=swept,
            seeds=seeds,
            known=sweep.jobs.values() if sweep else (),
        )
    if sweep is None:
        sweep = Sweep(path, swept=plan.swept, fixed=plan.fixed)
    else:
        both = [*sweep.swept, *plan.swept]
        refuse_conflict(str(path), list(sweep.jobs.values()), sweep.fixed, plan, both)
    sweep.launcher = {str(key): value for key, value in launcher.items()}
    extend(sweep, plan)
    add_command(sweep, request=request, jobs=plan.points)
    if not dry_run:
        sweep.save()
    return sweep, plan.points


def add_command(sweep: Sweep, *, request: str, jobs: list[list[str]]) -> None:
    sweep.commands.append(
        {
            "time": datetime.now().isoformat(sep=" ", timespec="seconds"),
            "arguments": sys.argv[1:],
            "request": request,
            "jobs": jobs,
        }
    )


def extend(sweep: Sweep, plan: Plan) -> None:
    """Add the jobs of a plan to a sweep, or find them there."""
    for job in plan.jobs:
        stored = sweep.jobs.get(job.name)
        sweep.jobs[job.name] = with_free_keys(stored, job.config) if stored else job
    sweep.swept = sorted({*sweep.swept, *plan.swept})
    sweep.fixed = {key: text for key, text in sweep.fixed.items() if key not in sweep.swept}
    if sweep.threads is None:
        config, where = plan.jobs[0].config, places(sweep.launcher)
        sweep.threads = config["threads"] or where.threads(config["device"], len(plan.jobs))


def _swept(composer: Composer, master: DictConfig) -> set[str]:
    """The keys that the command line sweeps over, even if over one value."""
    overrides = [composer.parse(text) for text in master.hydra.overrides.task]
    return {o.key_or_group for o in overrides if o.is_sweep_override()}


def _print_plan(sweep: Sweep, names: list[str], master: DictConfig) -> None:
    rows = [(name, *sweep.status(name)) for name in dict.fromkeys(names)]
    left = sweep.pending([row[0] for row in rows], retry_failed=master.sweep.retry_failed)
    config = sweep.jobs[names[0]].config
    assert sweep.threads is not None
    count = places(sweep.launcher).count(config["device"], sweep.threads)
    print_plan(rows, set(left), min(count or len(rows), len(left) or 1))


def _objectives(sweep: Sweep, names: list[str]) -> list[float]:
    """Of those of these runs that have finished."""
    results = [sweep.status(name) for name in names]
    return [objective(result) for status, result in results if result and status in FINISHED]


def _returned(sweep: Sweep, point: Point, names: list[str], failed: JobsFailed | None) -> JobReturn:
    returned = JobReturn(overrides=list(point), working_dir=str(sweep.run_dir(names[0])))
    values = _objectives(sweep, names)
    if len(values) < len(names):
        returned.return_value, returned.status = failed, JobStatus.FAILED
    else:
        returned.return_value, returned.status = statistics.median(values), JobStatus.COMPLETED
    return returned
