"""A process that trains one run after another: `python -m gan.sweep.worker`.

It reads a line of JSON for each task, `{"task": {...}}`, `{"stop": NAME}` or
`{"prune": NAME}`, from its standard
input, and writes its events in the same way. When its input ends, its parent is gone and it
ends at once: the last checkpoint is enough.
"""

import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gan.errors import Interrupted
from gan.signals import PRUNE
from gan.sweep.attempt import attempt

PROGRESS_EVERY = 0.5
"""Seconds between reports of a step at which nothing was logged."""


class Inbox:
    """What the parent sends, read as it comes."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.current: str | None = None
        self.stopped: set[str] = set()
        """Tasks to stop that have come, but not begun."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            with self.lock:
                if "task" in message:
                    self.stopped.clear()
                    self.tasks.put(message["task"])
                elif "prune" in message:
                    if message["prune"] == self.current and PRUNE is not None:
                        os.kill(os.getpid(), PRUNE)
                elif message["stop"] == self.current:
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    # A signal outside a task would end the process.
                    self.stopped.add(message["stop"])
        os._exit(1)

    @contextmanager
    def working_at(self, name: str) -> Iterator[None]:
        """Within the block, a stop of this task comes as SIGTERM."""
        with self.lock:
            if name in self.stopped:
                raise Interrupted(f"{name}: stopped before it began", 128 + signal.SIGTERM)
            self.current = name
        try:
            yield
        finally:
            with self.lock:
                self.current = None


class Replies:
    """Events for the parent, on what was the standard output before runs took it over."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def send(self, **event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")


def main() -> None:
    _die_with_parent()
    faulthandler.enable()
    replies, inbox = Replies(), Inbox()
    task = inbox.tasks.get()
    # Seconds: the first task waits for it, the next ones do not.
    import gan.train  # noqa: F401

    while True:
        healthy = _work(task, inbox, replies)
        if not healthy:
            # What an exception left behind, on a GPU above all, is no place for another run.
            sys.exit(1)
        task = inbox.tasks.get()


def _work(task: dict[str, Any], inbox: Inbox, replies: Replies) -> bool:
    """Run a task; False if this process should not be used again."""
    name, last = task["name"], 0.0

    def tell(step: int, total: int, record: dict[str, Any] | None) -> None:
        nonlocal last
        if record is not None or time.monotonic() - last > PROGRESS_EVERY:
            last = time.monotonic()
            replies.send(event="progress", name=name, step=step, total=total, record=record)

    replies.send(event="started", name=name)
    run_dir, working = Path(task["run_dir"]), inbox.working_at(name)
    ended = attempt(task["config"], run_dir, task["overrides"], tell, within=working)
    replies.send(event="ended", name=name, **ended)
    return bool(ended["status"] != "raised")


def _die_with_parent() -> None:
    """The end of the input tells of the parent's death as well, but a thread must read it."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
