"""One attempt at a job, and the ways in which it can end. Imports no torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gan.errors import (
    Busy,
    Interrupted,
    OutOfMemory,
    ProcessLost,
    StartFailed,
    UserError,
    first_line,
)
from gan.run.result import Status


@dataclass(frozen=True)
class Attempt:
    """One try at a job: train a run, or continue it."""

    name: str
    config: dict[str, Any]
    """The resolved configuration."""
    run_dir: Path
    overrides: list[str]
    """The command line that gave the configuration."""
    choices: dict[str, str] = field(default_factory=dict)
    """The chosen options of the config groups."""


class Ending(NamedTuple):
    """The end of an attempt."""

    status: Status
    objective: float | None = None
    reason: str | None = None


def ending_of(error: BaseException) -> Ending:
    """Return the end of an attempt that an exception ended."""
    if isinstance(error, ProcessLost):
        return Ending(Status.RAISED, reason=str(error))
    if isinstance(error, Interrupted):
        return Ending(Status.INTERRUPTED, reason=str(error))
    if isinstance(error, Busy):
        return Ending(Status.BUSY, reason=str(error))
    if isinstance(error, OutOfMemory | StartFailed):
        return Ending(Status.RAISED, reason=str(error))
    if isinstance(error, UserError):
        return Ending(Status.REFUSED, reason=str(error))
    return Ending(Status.RAISED, reason=first_line(error))
