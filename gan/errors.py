"""What may go wrong through no fault of this program, and how it is said: in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: its text is one line that says what to change."""

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(message.replace("\n", "\\n"))


class Busy(UserError):
    """Another process is at work in the same directory."""


class NotFinite(UserError):
    """A network gives NaN or infinity."""


class JobsFailed(UserError):
    """A sweep came to its end, but not all of its runs did."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """A run was told to stop and has saved a checkpoint.

    A KeyboardInterrupt, so that a sweep stops too instead of starting its next job.
    """

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Unfit(Exception):
    """A run cannot be trained this way, for the reason that the message gives."""


def first_line(error: BaseException) -> str:
    """What an exception says, in a line."""
    # Hydra wraps what a target raised in a longer story, which is in the log.
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint such as `; did you mean 'lr'?`, or nothing when no allowed name is near."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
