"""Sweeps whose points are chosen by what earlier ones gave: Optuna's ask and tell."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import check_ranges
from gan.errors import UserError
from gan.launchers.pool import Progress
from gan.metrics.catalogue import METRICS, direction
from gan.run.signals import deferred_stop
from gan.sweep.composer import Composer, save_sources, saved_loader
from gan.sweep.directory import Sweep, owned, read_sweep
from gan.sweep.launch import add_command, extend, failures, places, report, stopped
from gan.sweep.plan import Plan, make_plan
from gan.sweep.report import Display, console, spread
from gan.sweep.schedule import Limits, Outcome, Runner

try:
    import optuna

    from gan.sweep import space as spaces
    from gan.sweep.study import open_study
except ImportError as error:
    raise UserError(
        f"hydra/sweeper=optuna: {error.name} is not installed; pip install -e '.[optuna]'"
    ) from error

ENDED = (
    optuna.trial.TrialState.COMPLETE,
    optuna.trial.TrialState.PRUNED,
    optuna.trial.TrialState.FAIL,
)


def search(master: DictConfig, loader: ConfigLoader, arguments: Sequence[str]) -> None:
    """Run what is left of `hydra.sweeper.n_trials` trials in `hydra.sweep.dir`.

    Args:
        master: the configuration that Hydra composed for the whole sweep.
        arguments: the command line's overrides.

    Raises:
        UserError: the search cannot be planned; no run has started and nothing is left behind.
        JobsFailed: some runs failed.
        Interrupted: SIGINT or SIGTERM came, and the sweep can be resumed.
    """
    path, settings = Path(str(master.hydra.sweep.dir)), master.hydra.sweeper
    check_ranges(settings, "hydra.sweeper.")
    check_ranges(master.sweep, "sweep.")
    check_ranges(master.hydra.launcher, "hydra.launcher.")
    texts = [text for text in arguments if not text.startswith("sweep.")]
    space, fixed = spaces.read_space(loader, texts, settings.params)
    n_trials = settings.n_trials
    known = [spaces.values(distribution) for distribution in space.values()]
    if settings.sampler == "grid":
        n_trials = min(n_trials, _combinations(space, known))
    read_sweep(path)
    with owned(path):
        sweep = read_sweep(path)
        new = sweep is None
        if new:
            save_sources(loader, path / Sweep.SOURCES)
        composer = Composer(saved_loader(loader, path / Sweep.SOURCES), master)
        planner = _Planner(composer, fixed, space, master.sweep.seeds)
        probes = [planner.plan({}, point) for point in spaces.corners(space)]
        probe = probes[0].jobs[0].config
        objectives, directions = _objectives(settings, probe)
        search = {
            "space": {
                key: optuna.distributions.distribution_to_json(d) for key, d in space.items()
            },
            "objectives": objectives,
            "directions": directions,
            "fixed": fixed,
            "seeds": master.sweep.seeds,
        }
        sweep = sweep or Sweep(path, swept=sorted(space), search=search)
        _refuse_conflict(sweep, search)
        if master.sweep.dry_run:
            how = f"{n_trials} trials by {settings.sampler}, pruned by {settings.pruner}"
            console().print(f"{path}: {how}, over {', '.join(space)}", soft_wrap=True)
            return
        launcher = OmegaConf.to_container(master.hydra.launcher, resolve=True)
        assert isinstance(launcher, dict)
        sweep.launcher = {str(key): value for key, value in launcher.items()}
        where = places(sweep.launcher)
        where.check()
        sweep.threads = sweep.threads or (
            probe["threads"] or where.threads(probe["device"], n_trials)
        )
        study = open_study(
            settings,
            path,
            directions,
            known=dict(zip(space, known, strict=True)),
            seed=int(master.seed),
            max_steps=probe["trainer"]["max_steps"],
        )
        add_command(sweep, request="", jobs=[])
        sweep.save()
        _Search(sweep, study, planner, objectives, n_trials).run()
        asked = [job for trial in study.get_trials() for job in trial.user_attrs.get("jobs", [])]
        report(sweep, list(dict.fromkeys(asked)))
        _print_best(study, objectives, settings.storage or f"sqlite:///{path / 'study.db'}")
        if failed := failures(sweep, list(dict.fromkeys(asked))):
            raise failed


class _Planner:
    """Makes jobs of points."""

    def __init__(self, composer: Composer, fixed: list[str], space: "spaces.Space", seeds: int):
        self._composer, self._fixed, self._seeds = composer, fixed, seeds
        self.space = space

    def plan(self, known: dict[str, Any], point: dict[str, Any]) -> Plan:
        texts = [*self._fixed, *spaces.overrides(point)]
        return make_plan(
            self._composer, [texts], swept=self.space, seeds=self._seeds, known=known.values()
        )


@dataclass
class _Trial:
    """A trial whose runs have not all ended."""

    trial: "optuna.trial.Trial"
    jobs: list[str]
    statuses: dict[str, str] = field(default_factory=dict)
    reported: dict[int, dict[str, float]] = field(default_factory=dict)
    """By step, the objective of each run that got there."""
    told: set[int] = field(default_factory=set)
    """The steps that the study knows of: a run that goes on from a checkpoint repeats some."""


class _Search:
    """Keeps as many trials going as there are places, until enough have ended."""

    def __init__(
        self,
        sweep: Sweep,
        study: "optuna.Study",
        planner: _Planner,
        objectives: list[str],
        n_trials: int,
    ):
        self._sweep, self._study, self._planner = sweep, study, planner
        self._objectives, self._n_trials = objectives, n_trials
        self._running: list[_Trial] = []
        # What a process left running when it died is gone on with.
        left = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
        self._left = [optuna.trial.Trial(study, trial._trial_id) for trial in left]
        self._told = {trial.number: set(trial.intermediate_values) for trial in left}

    def run(self) -> None:
        settings = self._sweep.launcher
        first = self._next()
        if not first:
            return
        config = self._sweep.jobs[first[0]].config
        where = places(settings)
        width = where.width(config["device"], self._sweep.threads or 1) or self._n_trials
        while len(first) < width and (more := self._next()):
            first += more
        done = self._ended()
        display = Display(self._n_trials * len(self._running[0].jobs), [], self._objectives[0])
        console().print(
            f"{self._sweep.path}: {self._n_trials - done} of {self._n_trials} trials to run; "
            f"{min(width, len(first))} runs at a time, {self._sweep.threads} threads to a process",
            soft_wrap=True,
        )
        pool = where.pool(self._sweep, first)
        limits = Limits(settings["retries"], settings["timeout"], settings["max_failures"])
        runner = Runner(self._sweep, pool, limits)
        try:
            with deferred_stop() as stop, display.live():
                for name in first:
                    runner.submit(self._sweep.jobs[name])
                for event in runner.events(stop):
                    display.follow(event)
                    if isinstance(event, Progress) and event.record:
                        self._report(event, runner)
                    if isinstance(event, Outcome):
                        self._settle(event.job.name, event.status)
                        if stop.came is None and event.status != "interrupted":
                            for name in self._next() or ():
                                runner.submit(self._sweep.jobs[name])
        except KeyboardInterrupt as error:
            left = self._n_trials - self._ended()
            raise stopped(self._sweep.path, error, f"{left} of {self._n_trials} trials") from None
        finally:
            pool.close()

    def _ended(self) -> int:
        return len(self._study.get_trials(deepcopy=False, states=ENDED))

    def _next(self) -> list[str]:
        """The runs of another trial; none if enough trials have been asked for.

        A point that was chosen before, and whose runs have ended, is told at once.
        """
        while True:
            if self._left:
                trial = self._left.pop(0)
            elif self._ended() + len(self._running) < self._n_trials:
                trial = self._study.ask(self._planner.space)
            else:
                return []
            known = {job.identity: job for job in self._sweep.jobs.values()}
            plan = self._planner.plan(known, trial.params)
            extend(self._sweep, plan)
            names = plan.points[0]
            trial.set_user_attr("jobs", names)
            self._sweep.save()
            current = _Trial(trial, names, told=self._told.get(trial.number, set()))
            busy = {name for other in self._running for name in other.jobs}
            self._running.append(current)
            pending = self._sweep.pending(names, retry_failed=True)
            for name in names:
                if name not in pending:
                    current.statuses[name] = self._sweep.status(name)[0]
            if fresh := [name for name in pending if name not in busy]:
                return fresh
            if not pending:
                self._tell(current)

    def _report(self, event: Progress, runner: Runner) -> None:
        assert event.record
        value = event.record.get(self._objectives[0])
        if value is None or len(self._objectives) > 1:
            return
        for current in self._running:
            if event.name not in current.jobs:
                continue
            at = current.reported.setdefault(event.step, {})
            at[event.name] = value
            if len(at) == len(current.jobs) and event.step not in current.told:
                current.told.add(event.step)
                current.trial.report(statistics.median(at.values()), event.step)
                if event.step < event.total and current.trial.should_prune():
                    for name in current.jobs:
                        runner.prune(name)

    def _settle(self, name: str, status: str) -> None:
        for current in [trial for trial in self._running if name in trial.jobs]:
            current.statuses[name] = status
            if len(current.statuses) == len(current.jobs):
                self._tell(current)

    def _tell(self, current: _Trial) -> None:
        self._running.remove(current)
        statuses = set(current.statuses.values())
        if "interrupted" in statuses:
            return
        if statuses & {"failed", "diverged"}:
            self._study.tell(current.trial, state=optuna.trial.TrialState.FAIL)
        elif "pruned" in statuses:
            self._study.tell(current.trial, state=optuna.trial.TrialState.PRUNED)
        else:
            finals = [self._sweep.final(name) for name in current.jobs]
            spreads = [spread([final[name] for final in finals]) for name in self._objectives]
            current.trial.set_user_attr("iqr", [iqr for _, iqr in spreads])
            self._study.tell(current.trial, [median for median, _ in spreads])


def _objectives(settings: DictConfig, probe: dict[str, Any]) -> tuple[list[str], list[str]]:
    names = list(settings.objectives) or [probe["metrics"]["objective"]]
    directions = list(settings.directions) or [str(direction(name).value) for name in names]
    for name in names:
        if name in METRICS and name not in probe["metrics"]["names"]:
            raise UserError(
                f"hydra.sweeper.objectives={name}: no run reports it; "
                f"metrics.names has {', '.join(probe['metrics']['names']) or 'none'}"
            )
    if len(directions) != len(names):
        raise UserError(
            f"hydra.sweeper.directions: has {len(directions)} values for {len(names)} objectives"
        )
    if settings.pruner != "none" and len(names) > 1:
        raise UserError(f"hydra.sweeper.pruner={settings.pruner}: needs a single objective")
    return names, directions


def _combinations(space: "spaces.Space", known: list[list[Any] | None]) -> int:
    count = 1
    for key, options in zip(space, known, strict=True):
        if options is None:
            raise UserError(f"hydra.sweeper.sampler=grid: {key} needs values, not an interval")
        count *= len(options)
    return count


def _refuse_conflict(sweep: Sweep, search: dict[str, Any]) -> None:
    for name, value in search.items():
        if sweep.search.get(name) != value:
            raise UserError(
                f"{sweep.path}: its search has another {name}, {sweep.search.get(name, 'none')} "
                f"and not {value}; choose another hydra.sweep.dir"
            )


def _print_best(study: "optuna.Study", objectives: list[str], url: str) -> None:
    for trial in study.best_trials:
        results = ", ".join(
            f"{name} {value:.4g}" for name, value in zip(objectives, trial.values, strict=True)
        )
        point = " ".join(spaces.overrides(trial.params))
        console().print(f"best: {results}, trial {trial.number}: {point}", soft_wrap=True)
    console().print(f"all trials: optuna-dashboard {url}", soft_wrap=True)
