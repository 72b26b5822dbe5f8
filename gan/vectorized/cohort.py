"""The runs that one worker trains: which of them are in, and what becomes of each."""

import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

import torch
from omegaconf import DictConfig
from torch import Tensor

from gan.build import load_data
from gan.config.checks import as_config, as_yaml, checked
from gan.data import Data
from gan.data.mapped import free_memory
from gan.errors import Interrupted, NotSupported, UserError, first_line, is_out_of_memory
from gan.run.attempt import Attempt, Ending, ending_of
from gan.run.directory import LOG_FILE
from gan.run.result import Status
from gan.run.run import PROGRESS_SECONDS, Run
from gan.run.signals import PRUNE
from gan.step import eager_step
from gan.train import after_step, train_one_step
from gan.vectorized.compatible import compatibility_key
from gan.vectorized.run_set import RunFailed, RunSet, same_kinds_of_steps
from gan.vectorized.strategy import SEQUENTIAL, CohortSettings, Strategy, make_run_sets

MAX_RUNS_ON_CPU_TO_COMPARE = 6
"""Runs with which the strategies are compared on a CPU. A GPU may take all runs."""
NO_LIMIT = sys.maxsize
SHARE_OF_MEMORY = 0.7
"""The share of the free memory that a cohort may use."""


class Inbox(Protocol):
    """The requests of the parent process to a worker."""

    def new_attempts(self) -> list[Attempt]:
        """Return the attempts that arrived since the last call, without waiting."""

    def stop_signals(self) -> dict[str, Signals]:
        """Return the stop signals that arrived since the last call, by the names of attempts.

        SIGTERM interrupts an attempt, PRUNE prunes it. One that has just ended may be named.
        """


class Reporter(Protocol):
    """Reports of a worker to its parent process."""

    def started(self, name: str) -> None:
        """Report that an attempt has begun."""

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """Report the step of an attempt, and the values that were logged there, if any."""

    def ended(self, name: str, ending: Ending) -> None:
        """Report the end of an attempt. Its run directory is free."""

    def returned(self, name: str, reason: str, max_runs: int) -> None:
        """Hand an attempt back to the launcher, for a cohort of at most `max_runs` runs.

        The attempt can go on from its checkpoint. An empty reason is not shown to the user.
        """

    def note(self, text: str) -> None:
        """Tell the user something. The same text is shown once."""


class Cohort:
    """The runs that one worker trains in one program.

    Attempts come from the inbox and leave when they end. The runs are divided into sets that are
    trained by the strategy that the autotuner chose.
    """

    def __init__(
        self,
        inbox: Inbox,
        reporter: Reporter,
        settings: CohortSettings,
        capture_output: Callable[[Path], AbstractContextManager[None]] = lambda _: nullcontext(),
    ):
        """Make an empty cohort.

        Args:
            capture_output: sends what a run prints to a file, where runs are trained one by one.
        """
        self._inbox, self.reporter, self.settings = inbox, reporter, settings
        self._capture_output = capture_output
        self._captured = ExitStack()
        self.runs: list[Run] = []
        self.run_sets: list[RunSet] = []
        self.strategy = SEQUENTIAL
        self.changes = 0
        """The number of times that a run came or left."""
        self.key = ""
        """The compatibility key that all runs have in common."""
        self.tuned: Strategy | None = None
        """The best strategy for several runs, once it is known."""
        self._max_runs = 1
        self._waiting: list[Attempt] = []
        """Attempts that have not begun."""
        self._runs_when_arranged = 0
        self._memory_limit: int | None = None
        """The number of runs that there is memory for, once it is known."""
        self._confirmed: set[object] = set()
        """The networks whose steps in a stack are known to be right: see `StackedRuns`."""
        self._data: dict[str, Data] = {}

    def check_inbox(self) -> bool:
        """Take in new attempts and note stop signals; return whether any run is left."""
        for attempt in self._inbox.new_attempts():
            self._accept(attempt)
        for name, signal in self._inbox.stop_signals().items():
            for run in self.runs:
                if run.name == name:
                    run.stop_signal = run.stop_signal or signal
            waiting = [attempt for attempt in self._waiting if attempt.name == name]
            # One that has not begun has nothing to prune. It is asked again when it makes progress.
            for attempt in waiting if signal != PRUNE else []:
                self._waiting.remove(attempt)
                reason = "stopped before it began"
                self.reporter.ended(name, Ending(Status.INTERRUPTED, reason=reason))
        while self._waiting and len(self.runs) < self._max_runs:
            self._begin(self._waiting.pop(0))
        return bool(self.runs)

    @property
    def steps_left(self) -> int:
        """The steps left of all runs, plus an estimate for attempts that have not begun."""
        steps = [run.total_steps - run.step for run in self.runs]
        return sum(steps) + len(self._waiting) * max(steps, default=0)

    def let_more_in(self) -> None:
        """Let in as many runs as it takes to compare the strategies."""
        on_gpu = bool(self.runs) and self.runs[0].parts.device.type == "cuda"
        # Nothing is compared if the launcher asks for stacked runs.
        all_may = on_gpu or not self.settings.measure
        self._max_runs = NO_LIMIT if all_may else MAX_RUNS_ON_CPU_TO_COMPARE
        self.check_inbox()

    def keep_strategy(self) -> None:
        """Keep to the present strategy, and let in as many runs as it can use."""
        self.tuned, self._max_runs = self.strategy, NO_LIMIT
        if not self.strategy.is_stacked:
            # The other runs would only wait here. Another worker may have time for them.
            for run in self.runs[1:]:
                self._give_back(run, "", 1)
            for attempt in self._waiting:
                self.reporter.returned(attempt.name, "", 1)
            self._waiting.clear()
        self.check_inbox()

    def take_turn(self) -> None:
        """Train every run for a moment, and do what is due for each.

        Raises:
            NotSupported: the runs cannot be trained by this strategy.
        """
        for run_set in list(self.run_sets):
            try:
                run_set.train(PROGRESS_SECONDS * len(run_set.runs) / len(self.runs))
            except NotSupported:
                raise
            except RunFailed as failure:
                self._attend(failure.run, failure.error)
            except Exception as error:
                self._give_all_back(run_set.runs, error)
        for run in list(self.runs):
            # Runs that wait for their turn have made no step.
            if run.has_stepped or run.stop_signal is not None:
                self._attend(run)
        # Empty places of a stack cost as much as others.
        if self.strategy.is_stacked and len(self.runs) <= self._runs_when_arranged / 2:
            self.dissolve()

    def arrange(self, strategy: Strategy) -> None:
        """Divide the runs into sets anew.

        Raises:
            NotSupported: the runs cannot be trained by this strategy. They are in no set then.
        """
        self.dissolve()
        if strategy.is_stacked:
            self._align(self.runs)
        self.strategy = strategy
        if not self.runs:
            return
        try:
            self.run_sets = make_run_sets(strategy, self.runs, self.settings, self._confirmed)
            self._runs_when_arranged = len(self.runs)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._give_all_back(self.runs, error)

    def dissolve(self) -> None:
        """Take all runs out of their sets, with memory of their own."""
        for run_set in self.run_sets:
            for run in list(run_set.runs):
                run_set.leave(run)
        self.run_sets, self._runs_when_arranged = [], 0

    def _accept(self, attempt: Attempt) -> None:
        key = compatibility_key(attempt.config)
        if key != self.key and not self.runs:
            self.dissolve()
            self.key, self.tuned, self._memory_limit, self._max_runs = key, None, None, 1
            self._data.clear()
            self._confirmed.clear()
        if self.tuned and not self.tuned.is_stacked and self.runs:
            self.reporter.returned(attempt.name, "", 1)
        else:
            self._waiting.append(attempt)

    def _begin(self, attempt: Attempt) -> None:
        if self._memory_limit is not None and len(self.runs) >= self._memory_limit:
            reason = f"there is memory for {self._memory_limit} runs at once"
            self.reporter.returned(attempt.name, reason, self._memory_limit)
            return
        run = self._open(attempt)
        if run is None:
            return
        self.changes += 1
        self.runs.append(run)
        if self.settings.vectorize:
            self._prepare_to_share(run)
        if self.strategy.is_stacked and self.run_sets and self.run_sets[0].runs:
            self._align([*self.run_sets[0].runs, run])
        if run not in self.runs:
            return
        if self.tuned and self.tuned.is_stacked and not self.strategy.is_stacked:
            # A run that was left alone was in no stack. Now there may be one again.
            self.dissolve()
        if self.run_sets and not any(run_set.join(run) for run_set in self.run_sets):
            self._make_place_for(run)

    def _open(self, attempt: Attempt) -> Run | None:
        """Return the run up to its first step; None if it has ended before, which is reported."""
        name, run_dir = attempt.name, attempt.run_dir
        self.reporter.started(name)
        try:
            self._captured.enter_context(self._capture_output(run_dir))
            cfg = checked(as_config(attempt.config))
            run = Run.open(
                cfg,
                run_dir,
                attempt.overrides,
                choices=attempt.choices,
                load=self._load_data,
                on_progress=partial(self.reporter.progress, name),
            )
        except (Interrupted, Exception) as error:
            self._report_end(name, run_dir, error)
            return None
        if run.finished:
            run.close()
            self._report_end(name, run_dir, run)
            return None
        # From now on the run can be stopped. Before, its worker can only be killed, which would
        # lose what a first step with an evaluation has cost.
        self.reporter.progress(name, run.step, run.total_steps, None)
        return run

    def _prepare_to_share(self, run: Run) -> None:
        if run.cfg.trainer.profile:
            note = "trainer.profile=true: not where many runs are trained in one process"
            self.reporter.note(note)
        if self._memory_limit is None:

            def measure() -> None:
                self._memory_limit = memory_limit(run)

            self._make_one_step(run, measure)

    def _make_place_for(self, run: Run) -> None:
        if self.strategy.is_stacked:
            self.dissolve()
        else:
            self.run_sets += make_run_sets(SEQUENTIAL, [run], self.settings)

    def _load_data(self, cfg: DictConfig) -> Data:
        key = as_yaml(cfg.data) + cfg.device
        if key not in self._data:
            self._data[key] = load_data(cfg)
        return self._data[key]

    def _align(self, runs: Sequence[Run]) -> None:
        """Train runs eagerly until all take the same kinds of steps: one may have joined late."""
        for run in list(runs):
            while run in self.runs and not same_kinds_of_steps(run, runs[0]):
                self._make_one_step(run, partial(take_eager_step, run))

    def _make_one_step(self, run: Run, step: Callable[[], None]) -> None:
        """Make a step of one run, and do what is due after it."""
        try:
            with run.active():
                step()
        except Exception as error:
            self._attend(run, error)
        else:
            self._attend(run)

    def _attend(self, run: Run, error: Exception | None = None) -> None:
        """Do what is due for a run, or end it because of an error in its step."""
        try:
            if error:
                raise error
            with run.active():
                after_step(run)
        except (Interrupted, Exception) as reason:
            self._end(run, reason)
        else:
            if run.finished:
                self._end(run)

    def _end(self, run: Run, error: BaseException | None = None) -> None:
        self._remove(run)
        try:
            run.close(error)
        except UserError as explained:
            error = explained
        self._report_end(run.name, run.run_dir, error or run)

    def _report_end(self, name: str, run_dir: Path, outcome: Run | BaseException) -> None:
        """Report the end of an attempt, and write an error into the run's log."""
        if isinstance(outcome, Run):
            assert outcome.result
            ending = Ending(Status(outcome.result["status"]), outcome.objective)
        else:
            ending = ending_of(outcome)
        if isinstance(outcome, Exception):
            _write_to_log(run_dir, outcome, whole=ending.status is Status.RAISED)
        self._captured.close()
        self.reporter.ended(name, ending)

    def _remove(self, run: Run) -> None:
        self.changes += 1
        self.runs.remove(run)
        for run_set in self.run_sets:
            if run in run_set.runs:
                run_set.leave(run)
        if self.strategy.is_stacked:
            self.run_sets = [run_set for run_set in self.run_sets if run_set.runs]

    def _give_back(self, run: Run, reason: str, max_runs: int) -> None:
        self._remove(run)
        run.close()
        self._captured.close()
        self.reporter.returned(run.name, reason, max_runs)

    def _give_all_back(self, runs: Sequence[Run], error: Exception) -> None:
        """Give runs back after a step of all of them failed, or there was no memory to stack them.

        It is not known which run is to blame, nor what state they are in. They go on from their
        checkpoints, in a smaller cohort or alone.
        """
        # Tensors of the step live as long as its frames.
        traceback.clear_frames(error.__traceback__)
        max_runs, reason = 1, f"a step of all failed, {first_line(error)}"
        if is_out_of_memory(error):
            if len(self.runs) == 1:
                self._attend(self.runs[0], error)
                return
            max_runs, reason = max(1, len(runs) // 2), "memory ran out"
        for run in list(runs):
            self._give_back(run, reason, max_runs)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _write_to_log(run_dir: Path, error: Exception, *, whole: bool) -> None:
    """Write an error into a run's log: the whole traceback, or the message if there is a log."""
    # Where the disk is full, the error is still reported.
    with suppress(OSError):
        if whole:
            run_dir.mkdir(parents=True, exist_ok=True)
        elif not run_dir.is_dir():
            return
        with (run_dir / LOG_FILE).open("a", encoding="utf-8") as file:
            if whole:
                traceback.print_exception(error, file=file)
            else:
                print(error, file=file)


def take_eager_step(run: Run) -> None:
    """Train a run on its next batch, operation by operation."""
    train_one_step(run, partial(eager_step, run.parts, run.state))


def memory_limit(run: Run) -> int:
    """Return how many such runs can be trained in one step, at least 1.

    The run makes a step to find out.
    """
    return max(1, int(SHARE_OF_MEMORY * free_memory(run.parts.device) / _bytes_needed(run)))


def _bytes_needed(run: Run) -> int:
    """Return about the bytes that a run needs in a stack.

    That is twice what a step keeps for its gradients, because about as much again comes and goes,
    and eight times the weights: gradients, moments, the average and the temporaries of an update.
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        take_eager_step(run)
    networks = run.parts.generator, run.parts.discriminator
    weights = sum(weight.nbytes for network in networks for weight in network.parameters())
    return 2 * sum(kept.values()) + 8 * weights
