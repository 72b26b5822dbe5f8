"""Being told to stop, and stopping at a good moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PRUNE = getattr(signal, "SIGUSR1", None)
"""Tells a run to end as pruned, where the system has such a signal."""


class StopRequest:
    """The first SIGINT, SIGTERM or PRUNE that came, if any."""

    came: signal.Signals | None = None


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """Note the first SIGINT, SIGTERM or PRUNE instead of dying of it; a second one acts as usual.

    Outside the main thread, where Python allows no handlers, nothing is deferred.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.came = signal.Signals(number)
        restore()

    for number in (signal.SIGINT, signal.SIGTERM, PRUNE):
        if number is None:
            continue
        previous[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
