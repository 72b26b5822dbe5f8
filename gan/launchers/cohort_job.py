"""The program of a cluster job that trains a cohort: `execute_cohort`."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from gan.launchers.messages import Mailbox, MessageFile, MessageInbox, MessageReporter
from gan.run.attempt import Attempt
from gan.run.signals import PRUNE
from gan.system.startup import fast_imports, start_program

SECONDS_BETWEEN_READS = 1.0
"""Seconds between two looks for requests of the launcher."""
SECONDS_TO_LINGER = 30.0
"""Seconds that a job without runs waits for more of them, unless the launcher says it has none."""


class FileInbox(MessageInbox):
    """Requests of the launcher, read from a file, and the signals that this process got."""

    def __init__(self, requests: MessageFile):
        super().__init__()
        self._requests = requests
        self._is_stopping = False
        self._read_at = -SECONDS_BETWEEN_READS

    def read(self) -> None:
        """Read new requests, unless this was done a moment ago."""
        if time.monotonic() - self._read_at < SECONDS_BETWEEN_READS:
            return
        for message in self._requests.new_messages():
            self.take(message)
        self._read_at = time.monotonic()

    def wait(self) -> bool:
        """Wait until there is an attempt; return False if none comes."""
        deadline = time.monotonic() + SECONDS_TO_LINGER
        while not self._attempts:
            if self.is_closed or self._is_stopping or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
            self.read()
        return True

    def new_attempts(self) -> list[Attempt]:
        """See Inbox."""
        self.read()
        return super().new_attempts()

    def stop_all(self) -> bool:
        """Stop every attempt, also those that are still to come."""
        # A signal handler calls this, which may interrupt the other methods anywhere.
        self._is_stopping = True
        return True

    def stop_signals(self) -> dict[str, signal.Signals]:
        """See Inbox."""
        if self._is_stopping:
            super().stop_all()
        return super().stop_signals()


class FileReporter(MessageReporter):
    """Appends events to a file that the launcher reads."""

    def __init__(self, events: MessageFile):
        self._events = events

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """Report nothing: the launcher reads the records that the run writes."""

    def send(self, event: str, **fields: Any) -> None:
        """See MessageReporter."""
        self._events.append({"event": event, **fields})


def execute_cohort(path: str) -> None:
    """Train the attempts in a mailbox, and those that come meanwhile, until none is left.

    A signal to stop, such as that of a preemption or of the end of the job's time, lets every run
    save a checkpoint and end as interrupted.

    Args:
        path: the path of the `Mailbox`.
    """
    start_program(encoding="utf-8")
    mailbox = Mailbox(Path(path))
    inbox, reporter = FileInbox(mailbox.requests), FileReporter(mailbox.events)

    def stop(number: int, frame: FrameType | None) -> None:
        inbox.stop_all()

    with _handled_by(stop):
        # These imports take seconds.
        with fast_imports():
            from gan.vectorized.autotune import Autotuner
            from gan.vectorized.cohort import Cohort
            from gan.vectorized.strategy import CohortSettings

        inbox.read()
        autotuner = Autotuner(Cohort(inbox, reporter, CohortSettings(**inbox.settings)))
        while inbox.wait():
            autotuner.train()
        reporter.send("closed")


@contextmanager
def _handled_by(stop: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that clusters send in the block, and ignore PRUNE, which is none of them.

    SIGUSR2 comes from Slurm before the time of a job is up, SIGINT from Ray.
    """
    names = ("SIGTERM", "SIGINT", "SIGUSR2")
    handlers: dict[int, Any] = {
        getattr(signal, name): stop for name in names if hasattr(signal, name)
    }
    if PRUNE is not None:
        handlers[PRUNE] = signal.SIG_IGN
    # Ray uses the process again.
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
