"""Sets of runs that are trained in the same way, and how long their steps take."""

import math
import statistics
import time
from typing import Protocol

import torch

from gan.run.run import Run
from gan.step import StepKind


class RunSet(Protocol):
    """Runs of a cohort that are trained in the same way."""

    @property
    def runs(self) -> list[Run]:
        """The runs in the set."""

    @property
    def timer(self) -> "StepTimer":
        """The time that a step of one run takes."""

    def train(self, seconds: float) -> None:
        """Make steps until one of the runs needs attention, or the time is up.

        Raises:
            RunFailed: a run's own step failed.
            Exception: a step of all runs failed. Their state cannot be trusted.
        """

    def join(self, run: Run) -> bool:
        """Take another run in; return whether there was a place for it."""

    def leave(self, run: Run) -> None:
        """Let a run go, with memory of its own."""


class RunFailed(Exception):
    """A step of one run failed; the other runs are as they were."""

    def __init__(self, run: Run, error: Exception):
        super().__init__(str(error))
        self.run, self.error = run, error


class StepTimer:
    """The seconds that a step of one run takes, by the kind of step."""

    def __init__(self, device: torch.device):
        self._device = device
        self._seconds: dict[StepKind, list[float]] = {}
        self.is_measuring = False
        """Time steps. Only while strategies are compared, because waiting for a GPU costs time."""

    def start(self) -> float:
        """Return the time at the start of a step."""
        if self.is_measuring and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def stop(self, started: float, kind: StepKind, runs: int) -> None:
        """Record a step that `runs` runs made together and that began at `started`."""
        if self.is_measuring:
            self._seconds.setdefault(kind, []).append((self.start() - started) / runs)

    @property
    def steps(self) -> int:
        """The number of steps that were timed."""
        return sum(map(len, self._seconds.values()))

    def most_frequent(self) -> tuple[int, float]:
        """Return how many steps of the most frequent kind were timed, and their median time.

        The first of them is left out.
        """
        seconds = max(self._seconds.values(), key=len, default=[])[1:]
        return len(seconds), statistics.median(seconds) if seconds else 0.0

    def mean(self) -> float:
        """Return the mean over all kinds of steps, each weighted by how often it occurs."""
        total = 0.0
        for seconds in self._seconds.values():
            # The first step of a kind sets things up, or compiles.
            total += statistics.median(seconds[1:] or seconds) * len(seconds)
        return total / self.steps


def weight_sizes(run: Run) -> tuple[tuple[int, ...], ...]:
    """Return the shape of each weight of a run's networks."""
    networks = run.parts.generator, run.parts.discriminator
    return tuple(tuple(weight.shape) for network in networks for weight in network.parameters())


def same_kinds_of_steps(run: Run, other: Run) -> bool:
    """Return whether both runs take the same kind of step from now on."""
    return (run.step - other.step) % step_period(run) == 0


def step_period(run: Run) -> int:
    """Return the number of steps after which the kinds of steps repeat."""
    return math.lcm(run.parts.penalty_interval if run.parts.penalty else 1, run.parts.n_critic)
