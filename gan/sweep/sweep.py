"""From a command line, or a sweep's directory, to finished runs."""

import hashlib
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import as_config, check_ranges, is_under, plain
from gan.config.compose import source_words, split_words
from gan.config.loader import as_given
from gan.config.overrides import as_override
from gan.config.paths import moved_data, overrides_with_absolute_paths
from gan.config.schema import GLOBAL_GROUPS, PROTOCOL
from gan.config.trust import folder_powers, powers, refuse_untrusted, trust, word_powers
from gan.errors import JobsFailed, UserError
from gan.launchers.base import Launcher, find_launcher
from gan.launchers.local import LocalLauncher
from gan.run.directory import in_use
from gan.run.measured import ways
from gan.run.progress import counted
from gan.run.result import FINISHED, UNFINISHED, Status, objective, read_result
from gan.run.signals import StopRequest
from gan.sweep import SWEEP_FILE
from gan.sweep.composer import Composer, loader_of_copies, save_sources
from gan.sweep.detached import hand_over, is_detached, refuse_second_controller
from gan.sweep.directory import Sweep, owned, read_sweep, with_free_keys
from gan.sweep.plan import Job, Plan, make_plan, point_name, refuse_conflict
from gan.sweep.report import (
    LiveDisplay,
    console,
    print_failures,
    print_next_steps,
    print_plan,
    print_points,
    print_runs,
    print_ways,
)
from gan.sweep.schedule import JobEnded, ScheduleEvent, Scheduler, Tell, run_jobs, tell_nobody
from gan.sweep.space import Point
from gan.sweep.where import Where
from gan.system.invocation import as_seen_here, command_line

SUBDIRS = ("${hydra.job.override_dirname}", "${hydra.job.num}")
"""Defaults of `hydra.sweep.subdir`: that of conf/ and Hydra's own."""

Execute = Callable[[Sweep, list[str]], None]
"""A function that runs jobs of a sweep, given their names."""

SETTINGS_OF_RESUME = (
    "device",
    "hydra.launcher.n_jobs",
    "sweep.retry_failed",
    "hydra.launcher.detach",
)
"""Keys that `gan resume` may add to the command line of a search."""


@dataclass(frozen=True)
class Candidates:
    """The points that a sweeper offers. Those that do not meet `sweep.where` are left out."""

    points: Iterable[Point]
    swept: Collection[str] = ()
    """The keys that vary, even if they have one value in these points."""
    limit: int | None = None
    """The number of points to take, where there is no end of them; None takes all."""


def run_sweep(
    master: DictConfig,
    loader: ConfigLoader,
    candidates: Candidates,
    execute: Execute,
    launcher: Launcher | None = None,
) -> list[JobReturn]:
    """Plan the points in `hydra.sweep.dir`, or find them planned there, and run what is left.

    Args:
        master: the configuration that Hydra composed for the whole sweep.
        loader: composes the configuration of each job.
        candidates: the points, without overrides of `sweep.*`.
        launcher: may ask for the sweep to be handed over to its cluster.

    Returns:
        One result for each point, with the median objective over its seeds; none for a dry run, or
        if a cluster drives the sweep.

    Raises:
        UserError: the sweep cannot be planned. No run has started, and nothing is left behind.
        Interrupted: SIGINT or SIGTERM arrived, and the sweep can be resumed.
    """
    path = Path(str(master.hydra.sweep.dir))
    check_sweep(master)
    trust_command_line(master)
    read_sweep(path)
    if master.sweep.dry_run:
        sweep, _, names = _plan_points(path, master, loader, candidates)
        _print_plan(sweep, [name for point in names for name in point], master)
        return []
    refuse_second_controller(path)
    if launcher and is_detached(launcher):
        with owned(path):
            sweep, _, names = _plan_points(path, master, loader, candidates)
            hand_over(
                path,
                launcher,
                runs=len(sweep.jobs),
                device=_device(sweep),
                retry_failed=master.sweep.retry_failed,
            )
        return []
    with owned(path):
        sweep, points, names = _plan_points(path, master, loader, candidates)
        asked = list(dict.fromkeys(name for point in names for name in point))
        if (same := sum(map(len, names)) - len(asked)) > 0:
            console().print(f"{same} of the planned runs are repeated; each is trained once")
        _run_pending(sweep, asked, execute, retry_failed=master.sweep.retry_failed)
        objective_name = sweep.jobs[asked[0]].config["metrics"]["objective"]
        if master.sweep.seeds > 1 and objective_name:
            print_points(
                [(point_name(jobs), _objectives(sweep, jobs)) for jobs in names], objective_name
            )
        print_next_steps(path)
        failed = failures(sweep, asked)
        return [
            _job_return(sweep, point, jobs, failed)
            for point, jobs in zip(points, names, strict=True)
        ]


def resume_sweep(
    path: Path,
    *,
    retry_failed: bool,
    device: str | None = None,
    n_jobs: int | None = None,
    detach: bool = False,
) -> None:
    """Run what is left of a sweep, as it was planned.

    Args:
        retry_failed: run the failed runs again.
        device: the device of the runs; None keeps theirs.
        n_jobs: the number of runs at the same time; None keeps that of the sweep.
        detach: let a job of the sweep's cluster drive it.

    Raises:
        UserError: the directory holds no sweep, or one that another launcher ran.
        JobsFailed: some runs failed.
        Interrupted: SIGINT or SIGTERM arrived, and the sweep can be resumed.
    """
    if read_sweep(path) is None:
        raise UserError(f"{path}: not a sweep directory")
    with owned(path):
        sweep = read_sweep(path)
        assert sweep is not None
        assert not sweep.search, "a search goes on with its command line"
        settings = sweep.launcher | ({} if n_jobs is None else {"n_jobs": n_jobs})
        launcher = find_launcher(settings)
        if launcher is None:
            raise UserError(
                f"{path}: ran with {settings['_target_']}; to go on, repeat its command line with "
                f"hydra.sweep.dir={path}"
            )
        if device is not None:
            for name, job in sweep.jobs.items():
                sweep.jobs[name] = replace(job, config=job.config | {"device": device})
        if detach:
            launcher.detach = True
            launcher.check()
            hand_over(
                path,
                launcher,
                runs=len(sweep.jobs),
                device=_device(sweep),
                retry_failed=retry_failed,
                words=options_for_controller(device=device, n_jobs=n_jobs),
            )
            return
        _run_pending(sweep, list(sweep.jobs), in_launcher(launcher), retry_failed=retry_failed)
        print_next_steps(path)
        if failed := failures(sweep, list(sweep.jobs)):
            raise failed


def report_end(path: Path, controller: str) -> None:
    """Print what became of the runs of a sweep whose controller has ended before the sweep.

    Args:
        controller: its name in words.

    Raises:
        JobsFailed: some runs failed, or something is left to do.
    """
    sweep = read_sweep(path)
    assert sweep is not None
    names = list(sweep.jobs)
    report(sweep, names)
    if failed := failures(sweep, names):
        raise failed
    if sweep.search:
        raise JobsFailed(
            f"{path}: {controller} has ended before the search; go on with: "
            + command_line("resume", path)
        )


def options_for_controller(*, device: str | None, n_jobs: int | None) -> list[str]:
    """Return the options of `gan resume` that let a controller use these settings."""
    given = {"device": device, "n_jobs": n_jobs}
    return [f"{key}={as_override(value)}" for key, value in given.items() if value is not None]


def search_command(path: Path) -> list[str]:
    """Return the command line that goes on with a search; an empty one for another sweep.

    Raises:
        UserError: the directory holds something else than a sweep, or one whose command line does
            what this user does not know.
    """
    sweep = read_sweep(path)
    if sweep is None or not sweep.search:
        return []
    _, texts = split_words(sweep.commands[-1]["arguments"])
    refuse_untrusted(path / SWEEP_FILE, word_powers(texts))
    # Failed runs are run again where this is asked for, and not whenever a search goes on.
    left_out = ("hydra.sweep.dir=", "hydra.searchpath=", "sweep.retry_failed=")
    own = [text for text in texts if not text.lstrip("+").startswith(left_out)]
    if sweep.jobs:
        flat = next(iter(sweep.jobs.values())).flat()
        fixed = [text for text in own if text.partition("=")[0] not in sweep.swept]
        absolute = dict(zip(fixed, overrides_with_absolute_paths(fixed, flat), strict=True))
        own = [absolute.get(text, text) for text in own]
    return ["--multirun", *sweep.sources, *own, f"hydra.sweep.dir={as_override(str(path))}"]


def in_launcher(launcher: Launcher, tell: Tell = tell_nobody) -> Execute:
    """Return the function that runs jobs in a launcher of this package's kind.

    Args:
        tell: tells Hydra's callbacks of the jobs.

    Raises:
        UserError: something that the launcher needs is not installed.
    """
    launcher.check()

    def execute(sweep: Sweep, names: list[str]) -> None:
        first = sweep.jobs[names[0]].config
        assert sweep.threads is not None
        asked = {*names}
        others = [sweep.status(name) for name in sweep.jobs if name not in asked]
        done = [objective(result) for status, result in others if result and status in FINISHED]
        display = LiveDisplay(len(done) + len(names), done, first["metrics"]["objective"])
        at_a_time = launcher.max_running(first["device"], sweep.threads)
        console().print(
            f"{as_seen_here(sweep.path)}: {len(names)} to run, {len(done)} done before; "
            + (f"{min(at_a_time, len(names))} at a time, " if at_a_time else "")
            + f"{counted(sweep.threads, 'thread')} to a process",
            soft_wrap=True,
        )
        left = len(names)

        def count(event: ScheduleEvent, scheduler: Scheduler, stop: StopRequest) -> None:
            nonlocal left
            if isinstance(event, JobEnded) and event.status not in UNFINISHED:
                left -= 1

        run_jobs(
            sweep,
            launcher,
            names,
            display,
            on_event=count,
            remaining=lambda: f"{left} of {len(names)} runs",
            tell=tell,
        )

    return execute


def through_hydra(
    make_launcher: Callable[[ConfigLoader], HydraLauncher], loader: ConfigLoader
) -> Execute:
    """Return the function that runs jobs by any other launcher of Hydra's interface.

    Args:
        make_launcher: makes one that composes by the given loader.
        loader: Hydra's own loader.
    """

    def execute(sweep: Sweep, names: list[str]) -> None:
        launcher = make_launcher(loader_of_copies(loader, sweep.path / Sweep.SOURCES))
        names = [name for name in names if not in_use(sweep.run_dir(name))]
        if not names:
            return
        overrides = [
            [*sweep.jobs[name].overrides, f"hydra.sweep.subdir='{name}'"] for name in names
        ]
        for name in names:
            sweep.forget_failure(name)
        returned = launcher.launch(overrides, initial_job_idx=0)
        for name, job in zip(names, returned, strict=True):
            if job.status == JobStatus.FAILED:
                sweep.record_failure(name, str(job._return_value))

    return execute


def planning_launcher(settings: dict[str, Any]) -> Launcher:
    """Return a launcher that can say how many runs fit at a time.

    The settings of another package's launcher give a LocalLauncher.
    """
    n_jobs = settings.get("n_jobs")
    return find_launcher(settings) or LocalLauncher(
        n_jobs=n_jobs if isinstance(n_jobs, int) and n_jobs > 0 else None
    )


def failures(sweep: Sweep, names: Sequence[str]) -> JobsFailed | None:
    """Return the error to raise if not all of these jobs finished."""
    statuses = [sweep.status(name)[0] for name in names]
    failed = statuses.count(Status.FAILED)
    left = sum(status not in (*FINISHED, Status.FAILED) for status in statuses)
    if not failed and not left:
        return None
    counts = [f"{failed} of {len(names)} runs failed"] if failed else []
    counts += [f"{left} of {len(names)} runs have not ended"] if left else []
    options = ["retry_failed=true"] if failed else []
    return JobsFailed(
        f"{sweep.path}: {' and '.join(counts)}; once the cause is gone: "
        + command_line("resume", sweep.path, *options)
    )


def raise_failure(returned: Sequence[JobReturn]) -> None:
    """Raise the error of the points that did not finish, if there are such.

    Raises:
        JobsFailed: not everything that `run_sweep` ran finished.
    """
    for job in returned:
        if job.status == JobStatus.FAILED:
            raise job._return_value


def report(sweep: Sweep, names: list[str]) -> None:
    """Print a table of these runs, and why any of them failed."""
    if not names:
        return
    rows = [(name, *sweep.status(name)) for name in names]
    objective_name = sweep.jobs[names[0]].config["metrics"]["objective"]
    console().print()
    print_runs(rows, objective_name)
    results = [(name, result) for name, _, result in rows if result]
    facts = [(result.get("measured") or {}, sweep.jobs[name].flat()) for name, result in results]
    protocols = [config.get(PROTOCOL) for _, config in facts]
    print_ways(objective_name, ways(objective_name, facts), protocols)
    print_failures(
        (name, result.get("error"), sweep.log(name))
        for name, status, result in rows
        if result and status is Status.FAILED
    )


def _refuse_other_data(sweep: Sweep, plan: Plan, swept: Sequence[str]) -> None:
    """Refuse to mix runs on other data in one sweep, if the data are not what is swept over.

    Raises:
        UserError: data lie somewhere else than before and differ, or cannot be compared.
    """
    if {*GLOBAL_GROUPS} & {*swept}:
        return
    asked = {json.dumps(job.config["data"]): job for job in plan.jobs}
    stored: dict[str, list[Job]] = {}
    for job in sweep.jobs.values():
        stored.setdefault(json.dumps(job.config["data"]), []).append(job)
    for (now, new), (then, jobs) in itertools.product(asked.items(), stored.items()):
        moved = [key for key in moved_data(jobs[0].flat(), new.flat()) if not is_under(key, swept)]
        if now == then or not moved:
            continue
        # torch takes seconds to import, and data mostly stay where they are.
        from gan.build import load_data
        from gan.data import content_hash
        from gan.run.checkpoint import refuse_other_data

        present = content_hash(load_data(as_config(new.config)))
        for run_dir in (sweep.run_dir(job.name) for job in jobs):
            # Another run compares the data itself when it goes on.
            if (result := read_result(run_dir)) and result["status"] in FINISHED:
                refuse_other_data(run_dir, result.get("data_hash"), present, moved)


def check_sweep(master: DictConfig) -> None:
    """Check the settings of a sweep, whoever runs its jobs.

    Raises:
        UserError: a value is wrong, or has no effect.
    """
    check_ranges(master.sweep, "sweep.")
    subdir = OmegaConf.to_container(master.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index,call-overload]
    if subdir not in SUBDIRS:
        raise UserError(
            f"hydra.sweep.subdir={subdir}: has no effect, a run is named by the keys that vary; "
            "leave it out"
        )


def check_launcher(master: DictConfig) -> None:
    """Check the settings of a launcher of this package.

    Raises:
        UserError: a value is wrong, or it is a setting of Hydra's that its workers do not follow.
    """
    check_ranges(master.hydra.launcher, "hydra.launcher.")
    for key in ("job.chdir", "job.env_set", "output_subdir"):
        if value := OmegaConf.select(master.hydra, key):
            raise UserError(
                f"hydra.{key}={value}: not for runs of a sweep, whose workers train many; leave "
                "it out, or add hydra/launcher=basic"
            )


def launcher_settings(master: DictConfig) -> dict[str, Any]:
    """Return the launcher's settings as plain data."""
    return plain(master.hydra.launcher)


def trust_command_line(master: DictConfig) -> None:
    """Record what the present command line names, so that its sweep can be resumed without it."""
    hydra = master.hydra
    given = [*as_given(hydra.overrides.task), *as_given(hydra.overrides.hydra)]
    words = [*source_words(hydra), *given]
    folders = [Path(s.path) for s in hydra.runtime.config_sources if s.schema == "file"]
    in_folders = (line for folder in folders for line in folder_powers(folder))
    launcher = powers(launcher_settings(master), "hydra.launcher.")
    trust([*word_powers(words), *in_folders, *launcher])


def add_command(sweep: Sweep, *, request: str, jobs: list[list[str]]) -> None:
    """Note the present command line in a sweep.

    Args:
        request: a hash of the points and seeds that it asks for.
        jobs: the names of each point's jobs.
    """
    sweep.commands.append(
        {
            "time": datetime.now().isoformat(sep=" ", timespec="seconds"),
            "arguments": sys.argv[1:],
            "request": request,
            "jobs": jobs,
        }
    )


def extend(sweep: Sweep, plan: Plan) -> list[Job]:
    """Add the jobs of a plan to a sweep, or find them there.

    Returns:
        The jobs that are not stored as they are now.
    """
    changed = []
    for job in plan.jobs:
        # It follows from the command line, and from YAML files that were compared.
        trust([*powers(job.config), *word_powers(job.overrides)])
        stored = sweep.jobs.get(job.name)
        sweep.jobs[job.name] = with_free_keys(stored, job.config) if stored else job
        if sweep.jobs[job.name] != stored:
            changed.append(sweep.jobs[job.name])
    sweep.swept = sorted({*sweep.swept, *plan.swept})
    sweep.fixed = {key: text for key, text in sweep.fixed.items() if key not in sweep.swept}
    if sweep.threads is None:
        config, launcher = plan.jobs[0].config, planning_launcher(sweep.launcher)
        asked = config["threads"]
        sweep.threads = asked or launcher.threads_per_run(config["device"], len(plan.jobs))
    return changed


def _run_pending(sweep: Sweep, names: list[str], execute: Execute, *, retry_failed: bool) -> None:
    if pending := sweep.pending(names, retry_failed=retry_failed):
        execute(sweep, pending)
    report(sweep, names)


def _plan_points(
    path: Path, master: DictConfig, loader: ConfigLoader, candidates: Candidates
) -> tuple[Sweep, list[Point], list[list[str]]]:
    """Return the sweep with the candidates in it that meet `sweep.where`.

    The sweep is saved, except for a dry run.

    Returns:
        The sweep, the points, and the names of each point's jobs.
    """
    sweep = read_sweep(path)
    if sweep and sweep.search:
        raise UserError(
            f"{path}: holds a search, whose points hydra/sweeper=optuna chooses; add that to its "
            "command, or choose another hydra.sweep.dir"
        )
    seeds, dry_run = master.sweep.seeds, master.sweep.dry_run
    where = Where(master.sweep.where) if master.sweep.where is not None else None
    points = list(itertools.islice(candidates.points, candidates.limit))
    asked = [points, seeds, *([where.text] if where else [])]
    request = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    # A command that is repeated is not composed again: it means what it meant. One before the last
    # is, since a later one may have changed settings that do not decide a result.
    last = sweep.commands[-1:] if sweep else []
    known = next((command for command in last if command["request"] == request), None)
    if sweep and known:
        sweep.launcher = launcher_settings(master)
        if not dry_run:
            sweep.save()
        if where:
            points = [list(sweep.jobs[names[0]].overrides) for names in known["jobs"]]
        return sweep, points, known["jobs"]
    folder_context = nullcontext(str(path)) if sweep or not dry_run else TemporaryDirectory()
    with folder_context as folder:
        sources = Path(folder, Sweep.SOURCES)
        if sweep is None:
            save_sources(master, sources)
        composer = Composer(loader_of_copies(loader, sources), master)
        swept = {*candidates.swept, *(sweep.swept if sweep else ())}
        if where:
            # Those that were taken out of the candidates come first.
            offered = itertools.chain(points, candidates.points if candidates.limit else ())
            count = len(points)
            points = list(where.chosen(composer, offered, candidates.limit))
            if candidates.limit is None and (left := count - len(points)):
                console().print(
                    f"{left} of {count} points are left out by sweep.where={where.text}"
                )
        plan = make_plan(
            composer,
            points,
            swept=swept,
            seeds=seeds,
            known=sweep.jobs.values() if sweep else (),
        )
    if sweep is None:
        words = source_words(master.hydra)
        sweep = Sweep(path, swept=plan.swept, fixed=plan.fixed, sources=words)
    else:
        both = [*sweep.swept, *plan.swept]
        refuse_conflict(str(path), list(sweep.jobs.values()), sweep.fixed, plan, both)
        _refuse_other_data(sweep, plan, both)
    sweep.launcher = launcher_settings(master)
    extend(sweep, plan)
    add_command(sweep, request=request, jobs=plan.points)
    if not dry_run:
        sweep.save()
    return sweep, points, plan.points


def _print_plan(sweep: Sweep, names: list[str], master: DictConfig) -> None:
    rows = [(name, *sweep.status(name)) for name in dict.fromkeys(names)]
    left = sweep.pending([row[0] for row in rows], retry_failed=master.sweep.retry_failed)
    device = sweep.jobs[names[0]].config["device"]
    assert sweep.threads is not None
    launcher = planning_launcher(sweep.launcher)
    launcher.check_place(device)
    at_a_time = launcher.max_running(device, sweep.threads)
    print_plan(rows, set(left), min(at_a_time or len(rows), len(left) or 1))


def _device(sweep: Sweep) -> str:
    """Return the device that the runs of a planned sweep are configured for."""
    return str(next(iter(sweep.jobs.values())).config["device"])


def _objectives(sweep: Sweep, names: list[str]) -> list[float]:
    """Return the objectives of those runs that have finished."""
    results = [sweep.status(name) for name in names]
    return [objective(result) for status, result in results if result and status in FINISHED]


def _job_return(
    sweep: Sweep, point: Point, names: list[str], failed: JobsFailed | None
) -> JobReturn:
    returned = JobReturn(overrides=list(point), working_dir=str(sweep.run_dir(names[0])))
    values = _objectives(sweep, names)
    if len(values) < len(names):
        returned.return_value, returned.status = failed, JobStatus.FAILED
    else:
        returned.return_value, returned.status = statistics.median(values), JobStatus.COMPLETED
    return returned
