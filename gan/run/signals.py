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

HANGUP = getattr(signal, "SIGHUP", None)
"""The signal of a terminal or a connection that has gone. None where the system has no such
signal."""


def stop_signals() -> tuple[Signals, ...]:
    """Return the signals that ask a process to stop.

    A process that was told to ignore HANGUP, as `nohup` does, outlives its terminal.
    """
    if HANGUP is None or signal.getsignal(HANGUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, HANGUP


class StopRequest:
    """The first stop signal or PRUNE that arrived, if any."""

    signal: Signals | None = None


@contextmanager
def deferred_stop() -> Iterator[StopRequest]:
    """Note the first stop signal or PRUNE instead of ending at once.

    A second signal acts as usual, unless one of the two is HANGUP: both the system and the shell
    send it when a terminal closes, and may add SIGTERM. Outside the main thread, where Python
    allows no handlers, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[Signals, Any] = {}

    def restore(keep: Signals | None = None) -> None:
        for number, handler in previous.items():
            if number != keep:
                signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        request.signal = request.signal or Signals(number)
        if number != HANGUP:
            restore(keep=HANGUP)

    for number in (*stop_signals(), *([] if PRUNE is None else [PRUNE])):
        previous[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
