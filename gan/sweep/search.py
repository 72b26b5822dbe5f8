"""Searches: sweeps whose points are chosen by the results of earlier ones, with Optuna."""

import shlex
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from gan.config.checks import check_ranges, defines_result, flatten, plain
from gan.config.compose import source_words
from gan.config.paths import overrides_with_absolute_paths
from gan.errors import JobsFailed, NoAnswer, UserError
from gan.launchers.base import Launcher, Progress, find_launcher
from gan.metrics.catalogue import METRICS, direction
from gan.run.measured import ways
from gan.run.progress import counted
from gan.run.result import FINISHED, UNFINISHED, Status, objective, read_records
from gan.run.signals import StopRequest
from gan.sweep.composer import Composer, loader_of_copies, save_sources
from gan.sweep.detached import hand_over, is_detached, refuse_second_controller
from gan.sweep.directory import Sweep, damaged_jobs, owned, read_sweep
from gan.sweep.draw import random_points, refuse_single_point
from gan.sweep.plan import Job, JobNames, Plan, make_plan, refuse_unknown_keys
from gan.sweep.report import LiveDisplay, console, print_next_steps, spread
from gan.sweep.schedule import JobEnded, ScheduleEvent, Scheduler, Tell, run_jobs, tell_nobody
from gan.sweep.space import Point, Space, read_space
from gan.sweep.sweep import (
    SETTINGS_OF_RESUME,
    add_command,
    check_launcher,
    check_sweep,
    extend,
    failures,
    launcher_settings,
    options_for_controller,
    planning_launcher,
    report,
    search_command,
    trust_command_line,
)
from gan.sweep.where import PATIENCE, Where
from gan.system.invocation import as_seen_here

try:
    import optuna

    from gan.sweep.distributions import Distributions, distributions_of, parameter
    from gan.sweep.study import dashboard_words, open_study, place_of_study, stored_at_once
except ImportError as error:
    raise UserError(
        f'hydra/sweeper=optuna: {error.name} is not installed; pip install "gan-sweeps[optuna]"'
    ) from error

LEFT_OUT = "does not meet sweep.where"
"""The name of the attribute of a trial whose point was left out."""
REFUSED = "refused"
"""The name of the attribute with the reason why the point of a trial cannot be trained."""
ENDED_STATES = (
    optuna.trial.TrialState.COMPLETE,
    optuna.trial.TrialState.PRUNED,
    optuna.trial.TrialState.FAIL,
)


def run_search(
    master: DictConfig,
    loader: ConfigLoader,
    arguments: Sequence[str],
    tell: Tell = tell_nobody,
) -> None:
    """Run what is left of `hydra.sweeper.n_trials` trials in `hydra.sweep.dir`.

    Args:
        master: the configuration that Hydra composed for the whole sweep.
        arguments: the command line's overrides.
        tell: tells Hydra's callbacks of the jobs.

    Raises:
        UserError: the search cannot be planned. No run has started, and nothing is left behind.
        JobsFailed: some runs failed.
        Interrupted: SIGINT or SIGTERM arrived, and the search can be resumed.
    """
    path, settings = Path(str(master.hydra.sweep.dir)), master.hydra.sweeper
    check_ranges(settings, "hydra.sweeper.")
    check_sweep(master)
    check_launcher(master)
    if find_launcher(launcher_settings(master)) is None:
        option = master.hydra.runtime.choices["hydra/launcher"]
        raise UserError(
            f"hydra/launcher={option}: runs no search, which needs a launcher that tells of each "
            "end; choose local, vectorized, slurm or ray"
        )
    space = read_space(loader, arguments, plain(settings.params))
    refuse_single_point(space)
    if master.sweep.seeds > 1 and "seed" in space.keys:
        raise UserError(
            f"sweep.seeds={master.sweep.seeds}: the seed is searched over as well; leave out one "
            "of them"
        )
    distributions = distributions_of(space)
    where = Where(master.sweep.where) if master.sweep.where is not None else None
    trust_command_line(master)
    read_sweep(path)
    refuse_second_controller(path)
    with owned(path):
        sweep = read_sweep(path)
        is_new = sweep is None
        if is_new:
            save_sources(master, path / Sweep.SOURCES)
        composer = Composer(loader_of_copies(loader, path / Sweep.SOURCES), master)
        known = sweep.jobs.values() if sweep else ()
        planner = _Planner(composer, space, master.sweep.seeds, known, where)
        # Composing the corners of the space finds mistakes before the first run starts.
        points = space.corners()
        refuse_unknown_keys(composer, points)
        if where and not (points := [point for point in points if planner.meets(point)]):
            points = list(where.chosen(composer, random_points(space, int(master.seed)), limit=1))
        corners = [planner.example(point) for point in points]
        n_trials, grid = settings.n_trials, None
        if settings.sampler == "grid":
            grid = _grid(space, distributions, planner)
            n_trials = min(n_trials, len(grid))
        example = corners[0].jobs[0].config
        objectives, directions = _objectives(settings, example)
        _check_measured_alike(objectives, [corner.jobs[0].flat() for corner in corners])
        search = {
            "space": {
                name: optuna.distributions.distribution_to_json(one)
                for name, one in distributions.items()
            },
            "conditions": {one.name: one.condition.text for one in space.swept if one.condition},
            "where": where and where.text,
            "objectives": objectives,
            "directions": directions,
            "fixed": overrides_with_absolute_paths(space.fixed, flatten(example)),
            "seeds": master.sweep.seeds,
        }
        sources = source_words(master.hydra)
        steps = example["trainer"]["max_steps"]
        if settings.pruner != "none" and steps is not None and settings.min_steps >= steps:
            console().print(
                f"hydra.sweeper.min_steps={settings.min_steps}: is not below trainer.max_steps="
                f"{steps}, so hydra.sweeper.pruner={settings.pruner} prunes no run",
                soft_wrap=True,
            )
        sweep = sweep or Sweep(path, swept=space.keys, search=search, sources=sources)
        _refuse_conflict(sweep, search)
        if master.sweep.dry_run:
            how = f"{n_trials} trials by {settings.sampler}, pruned by {settings.pruner}"
            names = [
                f"{one.name} if {one.condition.text}"
                if one.condition and one.name == one.keys[0]
                else one.name
                for one in space.swept
            ]
            planning_launcher(launcher_settings(master)).check_place(example["device"])
            met = f", where {where.text}" if where else ""
            console().print(f"{path}: {how}, over {', '.join(names)}{met}", soft_wrap=True)
            return
        sweep.launcher = launcher_settings(master)
        launcher = planning_launcher(sweep.launcher)
        launcher.check()
        sweep.threads = sweep.threads or (
            example["threads"] or launcher.threads_per_run(example["device"], n_trials)
        )
        study = open_study(
            settings,
            path,
            directions,
            grid=grid,
            seed=int(master.seed),
            max_steps=example["trainer"]["max_steps"],
            is_new=is_new,
        )
        _refuse_losses(sweep, study, place_of_study(settings, path))
        if not _is_resumed(sweep):
            add_command(sweep, request="", jobs=[])
        sweep.save()
        if is_detached(launcher):
            words = options_for_controller(
                device=example["device"], n_jobs=sweep.launcher.get("n_jobs")
            )
            hand_over(
                path,
                launcher,
                runs=n_trials * master.sweep.seeds,
                device=example["device"],
                retry_failed=master.sweep.retry_failed,
                # The stored command line lacks what was asked for when a search goes on.
                words=words if _is_resumed(sweep) else (),
            )
            return
        if master.sweep.retry_failed:
            _repeat_failed_trials(sweep, study)
        search_ = _Search(
            sweep, study, planner, distributions, objectives, n_trials, settings.min_steps
        )
        with _removed_if_refused(study, sweep, is_new=is_new):
            search_.run(launcher, tell)
        jobs = [job for trial in study.get_trials() for job in trial.user_attrs.get("jobs", [])]
        names = list(dict.fromkeys(jobs))
        report(sweep, names)
        _print_best(study, space, objectives)
        print_next_steps(path)
        there = shlex.join(["cd", str(path)])
        dashboard = shlex.join(dashboard_words(settings, path))
        show = dashboard if settings.storage else f"{there} && {dashboard}"
        console().print(f"all trials: {show}", soft_wrap=True)
        if failed := failures(sweep, names):
            raise failed
        if search_.has_missed:
            text = f"sweep.where={where.text}" if where else "the space"
            what = f"were left out, the last since {search_.refusal}"
            raise UserError(
                f"{text}: {PATIENCE} points in a row "
                f"{what if search_.refusal else 'did not meet it'}, so the search has ended after "
                f"{search_.ended} of {n_trials} trials; widen the space"
                f"{' or the condition' if where else ''}"
            )


@contextmanager
def _removed_if_refused(study: "optuna.Study", sweep: Sweep, *, is_new: bool) -> Iterator[None]:
    """Delete a new study if an error of the user's ends the block before a run has begun.

    The storage may be a database elsewhere, whose trials would stand in the way of a second try.
    """
    try:
        yield
    except (NoAnswer, JobsFailed):
        raise
    except UserError:
        if is_new and not any(sweep.run_dir(name).exists() for name in sweep.jobs):
            optuna.delete_study(study_name=study.study_name, storage=study._storage)
        raise


class _Planner:
    """Plans the jobs of a point.

    Args:
        jobs: the jobs that are already in the sweep.
        where: the condition that all points must meet.
    """

    def __init__(
        self,
        composer: Composer,
        space: Space,
        seeds: int,
        jobs: Iterable[Job],
        where: Where | None = None,
    ):
        self._composer, self._seeds, self._where = composer, seeds, where
        self.space, self._names = space, JobNames(jobs, space.keys)

    @property
    def has_condition(self) -> bool:
        """True if some points may be left out."""
        return self._where is not None

    def meets(self, point: Point) -> bool:
        """Return whether a point meets the condition."""
        return self._where is None or self._where.meets(self._composer, point)

    def example(self, point: Point) -> Plan:
        """Return the plan of a point that is no trial."""
        return self._plan(point, JobNames((), self.space.keys), 0)

    def trial(self, point: Point, number: int) -> Plan:
        """Return the plan of a trial, whose jobs are then known."""
        return self._plan(point, self._names, number)

    def _plan(self, point: Point, names: JobNames, number: int) -> Plan:
        return make_plan(
            self._composer,
            [point],
            swept=self.space.keys,
            seeds=self._seeds,
            names=names,
            start=number,
        )


@dataclass
class _ActiveTrial:
    """A trial whose runs have not all ended."""

    trial: "optuna.trial.Trial"
    jobs: list[str]
    statuses: dict[str, Status] = field(default_factory=dict)
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    """The objective of each run that reached a step, by step."""
    reported_steps: set[int] = field(default_factory=set)
    """Steps that the study knows. A run that goes on from a checkpoint repeats some of them."""
    is_pruned: bool = False

    def follow(self, name: str, run_dir: Path, objective: str) -> None:
        """Take up what a run that has ended has recorded, so that the others can be pruned."""
        for record in read_records(run_dir):
            if record.get(objective) is not None:
                self.values.setdefault(record["step"], {})[name] = record[objective]


class _Search:
    """Keeps as many trials going as there are places, until enough have ended."""

    def __init__(
        self,
        sweep: Sweep,
        study: "optuna.Study",
        planner: _Planner,
        distributions: "Distributions",
        objectives: list[str],
        n_trials: int,
        min_steps: int,
    ):
        self._min_steps = min_steps
        self._sweep, self._study, self._planner = sweep, study, planner
        self._distributions = distributions
        self._objectives, self._n_trials = objectives, n_trials
        self._active: list[_ActiveTrial] = []
        # Trials that a dead process left running go on.
        left = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        self._left_running = [optuna.trial.Trial(study, trial._trial_id) for trial in left]
        self._reported_steps = {trial.number: set(trial.intermediate_values) for trial in left}
        trials = study.get_trials(deepcopy=False)
        ended = sum(trial.state in ENDED_STATES and not _is_left_out(trial) for trial in trials)
        self.ended = ended - len(_repeated(trials))
        """The number of trials that have ended, without those that others repeat."""
        self._width = 1
        """The number of runs to keep going."""
        self._misses = 0
        """The number of trials in a row that were left out."""
        self.refusal = ""
        """The reason why the newest of them cannot be trained; an empty text if it could be."""

    @property
    def has_missed(self) -> bool:
        """Return whether so many points were left out that no more are asked for."""
        return self._misses >= PATIENCE

    def run(self, launcher: Launcher, tell: Tell) -> None:
        """Run the trials that are left in a launcher.

        Raises:
            Interrupted: SIGINT or SIGTERM arrived, and the search can be resumed.
        """
        first = self._next_jobs()
        if not first:
            return
        device = self._sweep.jobs[first[0]].config["device"]
        threads = self._sweep.threads or 1
        most = self._n_trials * len(self._active[0].jobs)
        self._width = launcher.max_running_in_search(device, threads) or most
        while len(first) < self._width and (more := self._next_jobs()):
            first += more
        left = self._n_trials - self.ended
        total_runs = self._n_trials * len(self._active[0].jobs)
        others = [self._sweep.status(name) for name in self._sweep.jobs if name not in set(first)]
        done = [objective(result) for status, result in others if result and status in FINISHED]
        console().print(
            f"{as_seen_here(self._sweep.path)}: {left} of {self._n_trials} trials to run; "
            f"{min(self._width, len(first))} runs at a time, {counted(threads, 'thread')} to a "
            "process",
            soft_wrap=True,
        )
        run_jobs(
            self._sweep,
            launcher,
            first,
            LiveDisplay(total_runs, done, self._objectives[0]),
            on_event=self._handle,
            remaining=lambda: f"{self._n_trials - self.ended} of {self._n_trials} trials",
            tell=tell,
        )

    def _handle(self, event: ScheduleEvent, scheduler: Scheduler, stop: StopRequest) -> None:
        if isinstance(event, Progress):
            self._report_value(event)
            self._prune(event.name, scheduler)
        if isinstance(event, JobEnded):
            self._note_end(event.job.name, event.status)
            if stop.signal is not None or scheduler.is_stopping:
                return
            # A trial of several seeds gives several runs, and the next one is chosen as late as can
            # be, by what most runs have given.
            while self._unfinished < self._width and (names := self._next_jobs()):
                for name in names:
                    scheduler.submit(self._sweep.jobs[name])

    @property
    def _unfinished(self) -> int:
        """The number of runs that were asked for and have not ended."""
        return sum(len(active.jobs) - len(active.statuses) for active in self._active)

    def _next_jobs(self) -> list[str]:
        """Return the jobs of another trial; none if enough trials were asked for.

        A point that was chosen before, and whose runs have ended, is told to the study at once.
        """
        while True:
            if not self._left_running and self.ended + len(self._active) >= self._n_trials:
                return []
            if self.has_missed:
                # What was found by now is reported before the error.
                return []
            with stored_at_once(self._study):
                is_new = not self._left_running
                trial = self._study.ask() if is_new else self._left_running.pop(0)
                # Values that an earlier process chose stay.
                point = self._planner.space.point(partial(self._suggested, trial))
                plan, refusal = self._planned(point, trial.number)
                if is_new and self._planner.has_condition:
                    # A sampler that knows of constraints keeps away from points above 0.
                    trial.set_constraint("sweep.where", 1.0 if plan is None else 0.0)
                if plan is None:
                    self._misses, self.refusal = self._misses + 1, refusal
                    trial.set_user_attr(REFUSED if refusal else LEFT_OUT, refusal or True)
                    self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    continue
                self._misses = 0
                changed = extend(self._sweep, plan)
                names = plan.points[0]
                trial.set_user_attr("jobs", names)
            # To save all jobs at each trial would take ever longer.
            self._sweep.append(changed)
            reported = self._reported_steps.get(trial.number, set())
            active = _ActiveTrial(trial, names, reported_steps=reported)
            busy = {name for other in self._active for name in other.jobs}
            self._active.append(active)
            pending = self._sweep.pending(names, retry_failed=True)
            for name in names:
                if name not in pending:
                    active.statuses[name] = self._sweep.status(name)[0]
                    active.follow(name, self._sweep.run_dir(name), self._objectives[0])
            active.is_pruned = Status.PRUNED in active.statuses.values()
            if new := [name for name in pending if name not in busy]:
                return new
            if not pending:
                self._tell(active)

    def _planned(self, point: Point, number: int) -> tuple[Plan | None, str]:
        """Return the plan of a trial; None if it is left out, and why where its point is wrong.

        Some combinations of values that are right by themselves cannot be trained.
        """
        try:
            meets = self._planner.meets(point)
            return (self._planner.trial(point, number) if meets else None), ""
        except UserError as error:
            swept = [text for text in point if text.partition("=")[0] in self._planner.space.keys]
            if self.refusal != str(error):
                console().print(f"left out {' '.join(swept)}: {error}", soft_wrap=True)
            return None, str(error)

    def _suggested(self, trial: "optuna.trial.Trial", name: str) -> Any:
        """Return the value of a dimension that the sampler chooses, or has chosen, for a trial."""
        return trial._suggest(name, self._distributions[name])

    def _report_value(self, event: Progress) -> None:
        """Report an objective to the study, and note if its pruner prunes the trial."""
        value = event.record.get(self._objectives[0]) if event.record else None
        if value is None or len(self._objectives) > 1:
            return
        for active in self._active:
            if event.name not in active.jobs or active.is_pruned:
                continue
            values = active.values.setdefault(event.step, {})
            values[event.name] = value
            if len(values) == len(active.jobs) and event.step not in active.reported_steps:
                active.reported_steps.add(event.step)
                active.trial.report(statistics.median(values.values()), event.step)
                may_prune = self._min_steps <= event.step < event.total
                if may_prune and active.trial.should_prune():
                    active.is_pruned = True

    def _prune(self, name: str, scheduler: Scheduler) -> None:
        """Prune the runs of pruned trials, and once more one that makes progress all the same.

        It may have lost its process, and the request with it.
        """
        for active in self._active:
            if active.is_pruned and name in active.jobs:
                for job in active.jobs:
                    scheduler.prune(job)

    def _note_end(self, name: str, status: Status) -> None:
        for active in [active for active in self._active if name in active.jobs]:
            active.statuses[name] = status
            active.is_pruned |= status is Status.PRUNED
            if len(active.statuses) == len(active.jobs):
                self._tell(active)

    def _tell(self, active: _ActiveTrial) -> None:
        """Tell the study how a trial ended."""
        statuses = set(active.statuses.values())
        if statuses & set(UNFINISHED):
            # It keeps its place among the trials until the search is resumed.
            return
        self._active.remove(active)
        self.ended += 1
        if statuses & {Status.FAILED, Status.DIVERGED}:
            self._study.tell(active.trial, state=optuna.trial.TrialState.FAIL)
        elif Status.PRUNED in statuses:
            self._study.tell(active.trial, state=optuna.trial.TrialState.PRUNED)
        else:
            values = {
                name: [self._sweep.last_value(job, name) for job in active.jobs]
                for name in self._objectives
            }
            if missing := next((name for name, found in values.items() if None in found), None):
                console().print(
                    f"{active.jobs[0]}: no record has {missing}, so its trial counts as failed",
                    soft_wrap=True,
                )
                self._study.tell(active.trial, state=optuna.trial.TrialState.FAIL)
                return
            spreads = [spread([v for v in found if v is not None]) for found in values.values()]
            with stored_at_once(self._study):
                if len(active.jobs) > 1:
                    active.trial.set_user_attr("iqr", [iqr for _, iqr in spreads])
                self._study.tell(active.trial, [median for median, _ in spreads])


def _objectives(settings: DictConfig, example: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the objectives and their directions."""
    metrics = example["metrics"]
    names = list(settings.objectives) or [metrics["objective"]]
    for name in names:
        if name is None:
            raise UserError(
                "metrics.objective=null: a search needs a value to improve; choose metrics, or "
                "name a value that is logged, as in hydra.sweeper.objectives=[loss/generator]"
            )
        if name in METRICS and name not in metrics["names"]:
            raise UserError(
                f"hydra.sweeper.objectives={name}: no run reports it; "
                f"metrics.names has {', '.join(metrics['names']) or 'none'}"
            )
    directions = list(settings.directions) or [direction(name).value for name in names]
    if len(directions) != len(names):
        raise UserError(
            f"hydra.sweeper.directions: has {len(directions)} values for {len(names)} objectives"
        )
    if settings.pruner != "none" and len(names) > 1:
        raise UserError(f"hydra.sweeper.pruner={settings.pruner}: needs a single objective")
    return names, directions


def _check_measured_alike(objectives: Sequence[str], configs: Sequence[dict[str, Any]]) -> None:
    """Refuse a search whose points are measured in ways that do not compare."""
    for name in (name for name in objectives if name in METRICS):
        # Which real samples a key of the data gives is not known before a run.
        labels = ways(name, [({"real_hash": ""}, config) for config in configs])
        if len(different := dict.fromkeys(labels)) > 1:
            raise UserError(
                f"hydra.sweeper.objectives={name}: cannot be improved, its values would not "
                f"compare: {'; '.join(different)}"
            )


def _grid(space: Space, distributions: "Distributions", planner: _Planner) -> list[dict[str, Any]]:
    """Return the points of a grid that meet the condition, as values of Optuna's parameters."""
    for one in space.swept:
        if one.interval:
            raise UserError(f"hydra.sweeper.sampler=grid: {one.name} needs values, not an interval")
    return [
        {name: parameter(distributions[name], label) for name, label in labels.items()}
        for labels in {frozenset(labels.items()): labels for labels in space.labels()}.values()
        if planner.meets(space.point(labels.__getitem__))
    ]


def _refuse_conflict(sweep: Sweep, search: dict[str, Any]) -> None:
    for name, value in search.items():
        if _defining(name, sweep.search.get(name)) != _defining(name, value):
            raise UserError(
                f"{sweep.path}: its search has another {name}, {sweep.search.get(name, 'none')} "
                f"and not {value}; choose another hydra.sweep.dir"
            )


def _refuse_losses(sweep: Sweep, study: "optuna.Study", where: str) -> None:
    """Refuse to go on if the study has lost trials, or the sweep has lost their jobs."""
    trials = study.get_trials(deepcopy=False)
    if known := {name for trial in trials for name in trial.user_attrs.get("jobs", [])}:
        ended = [trial for trial in trials if trial.state in ENDED_STATES]
        jobs = [name for trial in ended for name in trial.user_attrs.get("jobs", [])]
        if lost := [name for name in jobs if name not in sweep.jobs]:
            raise damaged_jobs(sweep.path, f"lacks the run {lost[0]}")
    if lost := [name for name in sweep.jobs if name not in known]:
        raise UserError(
            f"{where}: lacks the trial of {lost[0]}; restore it, or choose another hydra.sweep.dir"
        )


def _defining(name: str, value: Any) -> Any:
    """Return a setting of a search without overrides that do not change results.

    The order of the others says nothing, except that the last one of a key counts.
    """
    if name != "fixed" or value is None:
        return value
    by_key = {text.lstrip("+~").partition("=")[0]: text for text in value}
    return {key: text for key, text in by_key.items() if defines_result(key)}


def _is_resumed(sweep: Sweep) -> bool:
    """Return whether the present command line is a stored one with settings for this time."""
    if not sweep.commands:
        return False
    # Flags have no fixed place on a command line.
    stored, given = (
        [word for word in words if not word.startswith("--")]
        for words in (search_command(sweep.path), sys.argv[1:])
    )
    # These are the settings that `gan resume` adds. With any other one it is another command.
    added = {word.partition("=")[0] for word in given[len(stored) :]}
    return given[: len(stored)] == stored and added <= {*SETTINGS_OF_RESUME}


def _repeat_failed_trials(sweep: Sweep, study: "optuna.Study") -> None:
    """Queue the points of failed runs again. A told trial stays as it is."""
    trials = study.get_trials()
    repeated = _repeated(trials)
    for trial in trials:
        names = trial.user_attrs.get("jobs", [])
        is_over = trial.state in ENDED_STATES and trial.number not in repeated
        if is_over and any(sweep.status(name)[0] is Status.FAILED for name in names):
            study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})


def _repeated(trials: Sequence["optuna.trial.FrozenTrial"]) -> set[int]:
    """Return the numbers of the trials that others repeat. They do not count."""
    return {trial.user_attrs["repeats"] for trial in trials if "repeats" in trial.user_attrs}


def _is_left_out(trial: "optuna.trial.FrozenTrial") -> bool:
    """Return whether the point of a trial was left out, so that nothing was run."""
    return LEFT_OUT in trial.user_attrs or REFUSED in trial.user_attrs


def _print_best(study: "optuna.Study", space: Space, objectives: list[str]) -> None:
    # A point that was chosen again has the same value.
    by_point = {str(trial.params): trial for trial in reversed(study.best_trials)}
    for trial in reversed(by_point.values()):
        results = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(objectives, trial.values, strict=True)
        )
        point = " ".join(space.swept_point(trial.params))
        console().print(f"best: {results}, trial {trial.number}: {point}", soft_wrap=True)
