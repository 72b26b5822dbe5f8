"""A process that trains one run after another: `python -m gan.launchers.worker`.

It reads a line of JSON for each task, `{"task": {...}}`, `{"stop": NAME}` or
`{"prune": NAME}`, from its standard input, and writes its events in the same way.
"""

import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from gan.errors import Interrupted
from gan.launchers.attempt import attempt
from gan.launchers.parent import Tell, listen, prepare
from gan.launchers.startup import lasting
from gan.run.signals import PRUNE


class Inbox:
    """What the parent sends, read as it comes."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current: str | None = None
        self._stopped: set[str] = set()
        """Tasks to stop that have come, but not begun."""
        listen(self._take)

    def _take(self, message: dict[str, Any]) -> None:
        with self._lock:
            if "task" in message:
                self._stopped.clear()
                self.tasks.put(message["task"])
            elif "prune" in message:
                if message["prune"] == self._current and PRUNE is not None:
                    os.kill(os.getpid(), PRUNE)
            elif message["stop"] == self._current:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                # A signal outside a task would end the process.
                self._stopped.add(message["stop"])

    @contextmanager
    def working_at(self, name: str) -> Iterator[None]:
        """Within the block, a stop of this task comes as SIGTERM."""
        with self._lock:
            if name in self._stopped:
                raise Interrupted(f"{name}: stopped before it began", 128 + signal.SIGTERM)
            self._current = name
        try:
            yield
        finally:
            with self._lock:
                self._current = None


def main() -> None:
    prepare()
    tell, inbox = Tell(), Inbox()
    task = inbox.tasks.get()
    # Seconds: the first task waits for it, the next ones do not.
    with lasting():
        import gan.train  # noqa: F401

    while True:
        name, run_dir = task["name"], Path(task["run_dir"])
        tell.started(name)
        watch, working = partial(tell.progress, name), inbox.working_at(name)
        tell.ended(
            name, **attempt(task["config"], run_dir, task["overrides"], watch, within=working)
        )
        task = inbox.tasks.get()


if __name__ == "__main__":
    main()
