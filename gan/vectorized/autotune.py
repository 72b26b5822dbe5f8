"""Finding the fastest strategy for a cohort by timing training steps that are needed anyway."""

import math

from gan.errors import NotSupported
from gan.vectorized.cohort import Cohort
from gan.vectorized.run_set import step_period
from gan.vectorized.strategy import (
    AS_CONFIGURED,
    SEQUENTIAL,
    STACKED,
    STACKED_BY_SIZE,
    Strategy,
    by_size,
)

WORTHWHILE = 0.95
"""A strategy takes the place of a simpler one if it takes less than this share of its time."""
HOPELESS = 1.3
"""Timing a strategy is broken off if its step takes this multiple of the fastest one's time."""
SECONDS_TO_COMPARE = 120.0
"""Several strategies are compared if so many seconds of training are left."""
SECONDS_TO_COMPILE = 180.0
"""Compiling is tried if so many seconds of training are left."""
TIMED_STEPS = 12
"""The least number of steps to time."""


class Autotuner:
    """Trains a cohort by the fastest strategy, and remembers which one that is."""

    def __init__(self, cohort: Cohort):
        self._cohort = cohort
        self._best: dict[str, Strategy] = {}
        """The best strategy by compatibility key."""
        self._unfit: set[tuple[str, Strategy]] = set()
        """Strategies that do not work, by compatibility key."""

    def train(self) -> None:
        """Train the runs that arrive until none is left.

        What was found out, and compiled, is used again at the next call.
        """
        while self._cohort.check_inbox():
            try:
                if not self._cohort.run_sets:
                    self.choose()
                if self._cohort.run_sets:
                    self._cohort.take_turn()
            except NotSupported as error:
                self._reject(error)

    def choose(self) -> None:
        """Arrange the cohort by the best strategy, unless a run comes or leaves meanwhile."""
        key = self._cohort.key
        if not self._cohort.settings.vectorize:
            self._cohort.arrange(AS_CONFIGURED)
        elif key in self._best:
            if not self._cohort.tuned:
                # Runs of another kind came in between.
                self._cohort.strategy = self._best[key]
                self._cohort.keep_strategy()
            self._use(self._best[key])
        elif best := self._compare():
            self._best[key] = best
            self._cohort.keep_strategy()

    def _reject(self, error: NotSupported) -> None:
        """Never use the present strategy for such runs again."""
        strategy, key = self._cohort.strategy, self._cohort.key
        self._cohort.reporter.note(f"{strategy}: not these runs, {error}")
        self._cohort.dissolve()
        # What does not fit the runs does not fit them compiled either.
        rejected = {strategy, strategy._replace(compiled=True)}
        self._unfit |= {(key, one) for one in rejected}
        if self._best.get(key) in rejected:
            del self._best[key]

    def _use(self, strategy: Strategy) -> None:
        """Arrange the cohort by a strategy that was best before."""
        several = len(self._cohort.runs) > 1
        eager = strategy._replace(compiled=False) if several else SEQUENTIAL
        compiled = eager._replace(compiled=True)
        self._cohort.arrange(eager)
        if strategy == compiled and self._cohort.runs:
            seconds = self._time(eager, math.inf)
            if seconds is not None and self._compiling_may_pay(seconds):
                self._cohort.arrange(compiled)

    def _compare(self) -> Strategy | None:
        """Return the best strategy and arrange the cohort by it; None if a run came or left."""
        cohort = self._cohort
        seconds: dict[Strategy, float] = {}
        if not cohort.settings.measure:
            cohort.let_more_in()
        strategies = self._candidates()
        while strategies:
            strategy = strategies.pop(0)
            took = self._time(strategy, min(seconds.values(), default=math.inf))
            if took is None:
                return None
            seconds[strategy] = took
            if strategy == SEQUENTIAL and cohort.steps_left * took > SECONDS_TO_COMPARE:
                cohort.let_more_in()
                strategies = self._candidates()[1:]
        best = min(seconds, key=lambda s: seconds[s] * (WORTHWHILE if s == SEQUENTIAL else 1.0))
        if math.isinf(seconds[best]):
            return None
        compiled = best._replace(compiled=True)
        may_compile = (cohort.key, compiled) not in self._unfit
        if may_compile and self._compiling_may_pay(seconds[best]):
            took = self._time(compiled, seconds[best])
            if took is None:
                return None
            seconds[compiled] = took
            if took < WORTHWHILE * seconds[best]:
                best = compiled
        if cohort.strategy != best or not cohort.run_sets:
            cohort.arrange(best)
        if len(cohort.runs) > 1:
            timings = ", ".join(f"{s} {1000 * took:.2f} ms" for s, took in seconds.items())
            count = len(cohort.runs)
            cohort.reporter.note(
                f"{count} runs in a process, time of a step of each run: {timings}"
            )
        return best

    def _candidates(self) -> list[Strategy]:
        """Return the eager strategies to try, in this order."""
        runs, key = self._cohort.runs, self._cohort.key
        stacked = [s for s in (STACKED, STACKED_BY_SIZE) if (key, s) not in self._unfit]
        if len(runs) == 1 or not stacked:
            return [SEQUENTIAL]
        if not self._cohort.settings.measure:
            return stacked[:1]
        return [SEQUENTIAL, *(stacked if len(by_size(runs)) > 1 else stacked[:1])]

    def _time(self, strategy: Strategy, best: float) -> float | None:
        """Return the seconds that a step of one run takes.

        Returns:
            Infinity if the strategy does not work, None if a run came or left.
        """
        cohort = self._cohort
        needed = max(TIMED_STEPS, 3 * step_period(cohort.runs[0]))
        changes = cohort.changes
        try:
            cohort.arrange(strategy)
            for run_set in cohort.run_sets:
                run_set.timer.is_measuring = True
            while cohort.changes == changes:
                cohort.take_turn()
                cohort.check_inbox()
                timers = [run_set.timer for run_set in cohort.run_sets]
                count, median = timers[0].most_frequent() if timers else (0, 0.0)
                if count > 3 and median > HOPELESS * best:
                    break
                if timers and all(timer.steps >= needed for timer in timers):
                    break
        except NotSupported as error:
            self._reject(error)
            return math.inf
        if cohort.changes != changes:
            cohort.dissolve()
            return None
        for timer in timers:
            timer.is_measuring = False
        shares = [len(run_set.runs) / len(cohort.runs) for run_set in cohort.run_sets]
        return sum(share * timer.mean() for share, timer in zip(shares, timers, strict=True))

    def _compiling_may_pay(self, seconds: float) -> bool:
        """Return whether compiling is worth a try, if a step of one run takes so many seconds."""
        # A user who asks for it has decided.
        asked = bool(self._cohort.runs[0].cfg.trainer.compile)
        enough = self._cohort.steps_left * seconds > SECONDS_TO_COMPILE
        return asked or (self._cohort.settings.compile and enough)
