"""Errors that are not bugs of this program, and their descriptions in one line."""

import difflib
import logging
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user. The message is one line and says what to change."""

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(printable(message))


class Busy(UserError):
    """Another process works in the same directory."""


class OutOfMemory(UserError):
    """Memory ran out, on a GPU or on the machine. Another attempt may find more of it."""

    exit_code = 1


class NoAnswer(UserError):
    """A cluster does not answer for too long. What was begun there can go on later."""

    exit_code = 1


class NotFinite(UserError):
    """A network returned NaN or infinity."""


class Diverged(UserError):
    """The one run that was to be trained diverged. In a sweep, this is a result like any other."""

    exit_code = 1


class JobsFailed(UserError):
    """A sweep is over, but some of its runs failed."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """A run or another command was stopped before its end; the message says how it goes on.

    It is a KeyboardInterrupt, so that a sweep stops too instead of starting its next job.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class ProcessLost(Interrupted):
    """One of several processes that train a run has died. The run can go on from its checkpoint."""


class StartFailed(UserError):
    """A process that was to train a run with others did not begin to. Another try may succeed."""

    exit_code = 1


class NotSupported(Exception):
    """A run cannot be trained in this way; the message says why."""


def printable(text: object, keep: str = "") -> str:
    """Return a text with escapes for characters that would move the cursor or change colours.

    Args:
        keep: characters to leave as they are.
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in str(text))


class PrintableFormatter(logging.Formatter):
    """Formats log records whose texts may come from a file of somebody else."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        return printable(super().format(record), keep="\n\t")


def first_line(error: BaseException) -> str:
    """Return the type of an exception and the first line of its message."""
    # If a target raised the error, Hydra wraps it in a longer message. The log has that one.
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def nearest(name: str, allowed: Iterable[str], above: str = "") -> str:
    """Return a hint such as `; did you mean 'lr'?`, or "" if no allowed name is similar.

    Args:
        above: the beginning of a dotted key, to be shown before the name.
    """
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{above}{close[0]}'?" if close else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, on a GPU or on the machine."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    # Importing torch takes a second that most commands do not need.
    import torch

    # The errors of the CPU's allocator and of CUDA's libraries have no type of their own.
    texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    told = any(text in str(error) for text in texts)
    return told or isinstance(error, torch.OutOfMemoryError)
