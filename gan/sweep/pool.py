"""Where jobs run: what every kind of pool takes, and what it tells."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


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

    `status` is completed, diverged, interrupted (a checkpoint is saved), raised, refused (a
    mistake of the user's, no use in trying again) or lost (its process died).
    """

    name: str
    status: str
    objective: float | None = None
    reason: str | None = None


Event = Started | Progress | Ended


class Pool(Protocol):
    """Runs tasks as places for them get free, in the order they came."""

    def submit(self, task: Task) -> None: ...

    def stop(self, name: str) -> None:
        """Let a task save a checkpoint and end as interrupted, or take it from the queue."""

    def kill(self, name: str) -> None:
        """End a running task at once, as lost."""

    def wait(self, timeout: float) -> Event | None:
        """The next event; None if none comes in so many seconds."""

    def close(self) -> None:
        """End everything at once."""
