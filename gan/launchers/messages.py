"""Messages between a launcher and the programs that train for it, in JSON.

A program is told `{"settings": {...}}` first, then `{"attempt": {...}}`, `{"stop": NAME}`,
`{"prune": NAME}` or `{"close": true}` as they come. It answers with events such as
`{"event": "started", "name": NAME}`.
"""

import json
import os
import signal
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from threading import Condition
from typing import Any

from gan.launchers.attempt import place_config
from gan.run.attempt import Attempt, Ending
from gan.run.signals import PRUNE

Message = dict[str, Any]


class MessageReporter(ABC):
    """Reports events as messages: see `gan.vectorized.cohort.Reporter`."""

    def started(self, name: str) -> None:
        """See Reporter."""
        self.send("started", name=name)

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """See Reporter."""
        self.send("progress", name=name, step=step, total=total, record=record)

    def ended(self, name: str, ending: Ending) -> None:
        """See Reporter."""
        self.send("ended", name=name, **ending._asdict())

    def returned(self, name: str, reason: str, max_runs: int) -> None:
        """See Reporter."""
        self.send("returned", name=name, reason=reason, max_runs=max_runs)

    def note(self, text: str) -> None:
        """See Reporter."""
        self.send("note", text=text)

    @abstractmethod
    def send(self, event: str, **fields: Any) -> None:
        """Send an event."""


class MessageInbox:
    """Messages of a launcher, kept until they are asked for: see `gan.vectorized.cohort.Inbox`."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.is_closed = False
        """The launcher has no more attempts for this program."""
        self._changed = Condition()
        self._attempts: list[Attempt] = []
        self._stop_signals: dict[str, signal.Signals] = {}
        self._handed_out: set[str] = set()
        """The names of attempts that were asked for since the last wait."""

    def take(self, message: Message) -> None:
        """Keep a message."""
        with self._changed:
            if "settings" in message:
                self.settings = message["settings"]
            elif "attempt" in message:
                fields = message["attempt"]
                # A signal that is still here was meant for an earlier attempt, which has ended.
                self._stop_signals.pop(fields["name"], None)
                self._attempts.append(Attempt(**fields | {"run_dir": Path(fields["run_dir"])}))
                self._changed.notify()
            elif "stop" in message:
                self._note_stop(message["stop"], signal.SIGTERM)
            elif "close" in message:
                self.is_closed = True
            elif PRUNE is not None:
                self._note_stop(message["prune"], PRUNE)

    def new_attempts(self) -> list[Attempt]:
        """See Inbox."""
        with self._changed:
            attempts, self._attempts = self._attempts, []
            self._handed_out |= {attempt.name for attempt in attempts}
            return attempts

    def stop_all(self) -> bool:
        """Ask every attempt to stop; return whether there is any."""
        with self._changed:
            for name in self._handed_out:
                self._note_stop(name, signal.SIGTERM)
            return bool(self._handed_out)

    def stop_signals(self) -> dict[str, signal.Signals]:
        """See Inbox."""
        with self._changed:
            # Signals for attempts that were not asked for yet wait with them.
            early = {attempt.name for attempt in self._attempts}
            now = {name: how for name, how in self._stop_signals.items() if name not in early}
            self._stop_signals = {n: how for n, how in self._stop_signals.items() if n in early}
            return now

    def _note_stop(self, name: str, number: signal.Signals) -> None:
        # The first one counts, as it does where a run gets signals itself.
        self._stop_signals.setdefault(name, number)


def attempt_message(attempt: Attempt, threads: int, *, one_gpu: bool) -> Message:
    """Return the message that hands an attempt to a program with a slot of its own.

    Args:
        threads: the threads of the slot.
        one_gpu: the program sees one GPU only.
    """
    config = place_config(attempt.config, threads, one_gpu=one_gpu)
    return {"attempt": asdict(attempt) | {"config": config, "run_dir": str(attempt.run_dir)}}


class MessageFile:
    """A file of messages, a line for each, that one process appends to and another one reads.

    They may be on different machines, which see the file on a shared file system.
    """

    def __init__(self, path: Path):
        self.path = path
        self._offset = 0

    def append(self, *messages: Message) -> None:
        """Append messages. Others see them once this returns."""
        text = "".join(json.dumps(message) + "\n" for message in messages)
        # A network file system sends to its server what was written when the file is closed.
        with self.path.open("ab", buffering=0) as file:
            file.write(text.encode())
            os.fsync(file.fileno())

    def new_messages(self) -> list[Message]:
        """Return the messages since the last call. Half a line waits for its other half."""
        try:
            # A network file system asks its server for news when the file is opened.
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        messages = []
        for line in whole.splitlines():
            with suppress(ValueError):
                messages.append(json.loads(line))
        return messages


class Mailbox:
    """The two files by which a launcher and a job on another machine exchange messages."""

    def __init__(self, path: Path):
        """Use `path` with the endings `.requests` and `.events`."""
        self.path = path
        self.requests = MessageFile(path.with_name(f"{path.name}.requests"))
        self.events = MessageFile(path.with_name(f"{path.name}.events"))

    def remove(self) -> None:
        """Remove the files."""
        self.requests.path.unlink(missing_ok=True)
        self.events.path.unlink(missing_ok=True)
