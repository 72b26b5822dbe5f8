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
CTRL_C_TO_END = 3
"""The number of times that Ctrl-C is pressed to end without a checkpoint."""

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

    Further signals change nothing: terminals, clusters and people send several, and the run is
    stopping already. Only the third Ctrl-C ends the program at once. Outside the main thread, where
    Python allows no handlers, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[Signals, Any] = {}
    received: list[Signals] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(Signals(number))
        request.signal = received[0]
        if received.count(signal.SIGINT) == CTRL_C_TO_END:
            raise KeyboardInterrupt

    for number in (*stop_signals(), *([] if PRUNE is None else [PRUNE])):
        previous[number] = signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
