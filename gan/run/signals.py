"""Signals that ask a run to stop, noted so that it stops at a good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from types import FrameType
from typing import Any

PRUNE = getattr(signal, "SIGUSR1", None)
"""The signal that asks a run to end as pruned. None where the system has no such signal."""


class StopRequest:
    """The first SIGINT, SIGTERM or PRUNE that arrived, if any."""

    signal: Signals | None = None


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """Note the first SIGINT, SIGTERM or PRUNE instead of ending at once.

    A second signal acts as usual. Outside the main thread, where Python allows no handlers, nothing
    is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[Signals, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = Signals(number)
        restore()

    for number in (signal.SIGINT, signal.SIGTERM, PRUNE):
        if number is not None:
            previous[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
