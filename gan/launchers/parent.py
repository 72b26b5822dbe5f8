"""A worker process's side of the pipe to its parent: JSON lines both ways."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

PROGRESS_EVERY = 0.5
"""Seconds between reports of a step at which nothing was logged."""


class Tell:
    """Events for the parent, on what was the standard output before runs took it over."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._told: dict[str, float] = {}

    def started(self, name: str) -> None:
        self._send("started", name=name)

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        now = time.monotonic()
        if record is not None or now - self._told.get(name, 0.0) > PROGRESS_EVERY:
            self._told[name] = now
            self._send("progress", name=name, step=step, total=total, record=record)

    def ended(
        self, name: str, status: str, objective: float | None = None, reason: str | None = None
    ) -> None:
        self._told.pop(name, None)
        self._send("ended", name=name, status=status, objective=objective, reason=reason)

    def returned(self, name: str, reason: str, group: int) -> None:
        self._told.pop(name, None)
        self._send("returned", name=name, reason=reason, group=group)

    def note(self, text: str) -> None:
        self._send("note", text=text)

    def _send(self, event: str, **fields: Any) -> None:
        self._file.write(json.dumps({"event": event, **fields}) + "\n")


def prepare() -> None:
    """Have this process end with its parent, and tell of a crash where it was."""
    faulthandler.enable()
    if sys.platform != "linux":
        return
    # The end of the input tells of the parent's death as well, but a thread must read it.
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def listen(take: Callable[[dict[str, Any]], None]) -> None:
    """Hand on what the parent sends as it comes, in a thread. When the input ends, the parent
    is gone or has no more use for this process, which ends at once: what it worked at has its
    last checkpoint."""

    def read() -> None:
        for line in sys.stdin:
            take(json.loads(line))
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
