"""A process that trains many runs together: `python -m gan.launchers.group_worker`.

It reads lines of JSON from its standard input, `{"settings": {...}}` first, then
`{"task": {...}}`, `{"stop": NAME}` or `{"prune": NAME}` as they come, and writes its events in
the same way.
"""

import signal
import threading
from pathlib import Path
from typing import Any

from gan.launchers.parent import Tell, listen, prepare
from gan.run.signals import PRUNE
from gan.vectorized.inbox import Assigned


class Inbox:
    """What the parent sends, kept until it is asked for."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self._come = threading.Condition()
        self._new: list[Assigned] = []
        self._stops: dict[str, signal.Signals] = {}
        listen(self._take)

    def wait(self) -> None:
        """Until there is a task."""
        with self._come:
            self._come.wait_for(lambda: self._new)

    def new(self) -> list[Assigned]:
        with self._come:
            new, self._new = self._new, []
            return new

    def stops(self) -> dict[str, signal.Signals]:
        with self._come:
            # Whoever asks must know the task.
            early = {task.name for task in self._new}
            known = {name: how for name, how in self._stops.items() if name not in early}
            self._stops = {name: how for name, how in self._stops.items() if name in early}
            return known

    def _take(self, message: dict[str, Any]) -> None:
        with self._come:
            if "settings" in message:
                self.settings = message["settings"]
            elif "task" in message:
                task = message["task"]
                # What came for an attempt that had ended already.
                self._stops.pop(task["name"], None)
                self._new.append(Assigned(**task | {"run_dir": Path(task["run_dir"])}))
                self._come.notify()
            elif "stop" in message:
                self._stops[message["stop"]] = signal.SIGTERM
            elif PRUNE is not None:
                self._stops.setdefault(message["prune"], PRUNE)


def main() -> None:
    prepare()
    tell, inbox = Tell(), Inbox()
    inbox.wait()
    # Seconds: the first task waits for it, the next ones do not.
    from gan.vectorized.train import GroupTrainer

    train = GroupTrainer(inbox, tell, inbox.settings)  # type: ignore[arg-type]
    while True:
        train()
        inbox.wait()


if __name__ == "__main__":
    main()
