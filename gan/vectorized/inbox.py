"""What a group of runs is told while it trains, and what it tells."""

import signal
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Assigned(NamedTuple):
    """A run that is to become a member."""

    name: str
    config: dict[str, Any]
    run_dir: Path
    overrides: list[str]


class Inbox(Protocol):
    def new(self) -> list[Assigned]:
        """What has come since the last call; never waits."""

    def stops(self) -> dict[str, signal.Signals]:
        """What is to stop since the last call, of all that `new` has given: by SIGTERM as
        interrupted, by gan.run.signals.PRUNE as pruned. A run that has just ended may be named."""


class Tell(Protocol):
    def started(self, name: str) -> None:
        """A run has begun to train."""

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """It is at a step of `total`, with the values it logged there, if any. May be called at
        every step: what comes too often and tells no record is left out."""

    def ended(
        self, name: str, status: str, objective: float | None = None, reason: str | None = None
    ) -> None:
        """An attempt is over, as gan.launchers.pool.Ended says. Its directory is free."""

    def returned(self, name: str, reason: str, group: int) -> None:
        """A run has not begun, or its state is in its checkpoint and its directory free: it is to
        go on in a group of at most so many. Without a reason the user is not told."""

    def note(self, text: str) -> None:
        """What the user should know; the same text is shown once."""
