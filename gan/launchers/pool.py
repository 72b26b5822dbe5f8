"""Where jobs run: what every kind of pool takes, and what it tells."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gan.sweep.directory import Sweep


@dataclass(frozen=True)
class Task:
    """One attempt at a run."""

    name: str
    config: dict[str, Any]
    run_dir: Path
    overrides: list[str]


@dataclass(frozen=True)
class Started:
    name: str


@dataclass(frozen=True)
class Progress:
    """A running task's step of `total`, with the values it logged there, if any."""

    name: str
    step: int
    total: int
    record: dict[str, Any] | None


@dataclass(frozen=True)
class Ended:
    """The end of an attempt.

    `status` is completed, diverged, pruned, interrupted (a checkpoint is saved), raised, refused (a
    mistake of the user's, no use in trying again) or lost (its process died).
    """

    name: str
    status: str
    objective: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Requeued:
    """A task lost its place at no fault of its own, and goes on when it gets another one."""

    name: str
    reason: str


@dataclass(frozen=True)
class Note:
    """What the user should know, once."""

    text: str


Event = Started | Progress | Requeued | Ended | Note


class Pool(Protocol):
    """Runs tasks as places for them get free, in the order they came."""

    def submit(self, task: Task) -> None: ...

    def stop(self, name: str) -> None:
        """Let a task save a checkpoint and end as interrupted, or take it from the queue."""

    def prune(self, name: str) -> None:
        """Let a running task save a checkpoint and end as pruned."""

    def kill(self, name: str) -> None:
        """End a running task at once, as lost."""

    def wait(self, timeout: float) -> Event | None:
        """The next event; None if none comes in so many seconds."""

    def close(self) -> None:
        """End everything at once."""


class Places(Protocol):
    """Where a launcher's settings say that runs go."""

    def check(self) -> None:
        """
        Raises:
            UserError: what they need is not installed.
        """

    def threads(self, device: str, jobs: int) -> int:
        """Of each run, where there are so many for this device."""

    def count(self, device: str, threads: int) -> int | None:
        """How many runs go on at a time at most, in processes of so many threads; None where
        others decide."""

    def width(self, device: str, threads: int) -> int | None:
        """How many of them a search keeps going; None where others decide."""

    def pool(self, sweep: Sweep, names: list[str]) -> Pool:
        """For these jobs of a sweep.

        Raises:
            UserError: there is no such place.
        """


def withdrawn(waiting: deque[Task], name: str) -> bool:
    """Take a task out of a queue; False if it is not in it."""
    for task in waiting:
        if task.name == name:
            waiting.remove(task)
            return True
    return False
