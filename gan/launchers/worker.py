"""A worker process: `python -m gan.launchers.worker`.

It reads lines of JSON from its standard input: `{"settings": {...}}` first, then
`{"attempt": {...}}`, `{"stop": NAME}` or `{"prune": NAME}` as they come. It writes its events in
the same way. It trains a cohort: one run after the other, or many at a time, as the settings say.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from gan.launchers.attempt import redirected_output
from gan.run.attempt import Attempt, Ending
from gan.run.signals import PRUNE, stop_signals
from gan.startup import end_with_parent, fast_imports, start_program


class PipeReporter:
    """Writes events for the parent process to what was the standard output."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        # From now on, what is printed goes to the standard error.
        os.dup2(2, 1)

    def started(self, name: str) -> None:
        """See Reporter."""
        self._send("started", name=name)

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """See Reporter."""
        self._send("progress", name=name, step=step, total=total, record=record)

    def ended(self, name: str, ending: Ending) -> None:
        """See Reporter."""
        self._send("ended", name=name, **ending._asdict())

    def returned(self, name: str, reason: str, max_runs: int) -> None:
        """See Reporter."""
        self._send("returned", name=name, reason=reason, max_runs=max_runs)

    def note(self, text: str) -> None:
        """See Reporter."""
        self._send("note", text=text)

    def _send(self, event: str, **fields: Any) -> None:
        self._file.write(json.dumps({"event": event, **fields}) + "\n")


class PipeInbox:
    """Messages of the parent process, kept until they are asked for.

    A thread reads them as they come. When the input ends, the parent process is gone or has no more
    use for this one, which then ends at once: its runs have their last checkpoints.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._attempts: list[Attempt] = []
        self._stop_signals: dict[str, signal.Signals] = {}
        self._handed_out: set[str] = set()
        """The names of attempts that were asked for since the last wait."""
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> None:
        """Wait until there is an attempt."""
        with self._changed:
            self._handed_out.clear()
            self._changed.wait_for(lambda: self._attempts)

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

    def _listen(self) -> None:
        for line in sys.stdin:
            self._take(json.loads(line))
        os._exit(1)

    def _take(self, message: dict[str, Any]) -> None:
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
            elif PRUNE is not None:
                self._note_stop(message["prune"], PRUNE)

    def _note_stop(self, name: str, number: signal.Signals) -> None:
        # The first one counts, as it does where a run gets signals itself.
        self._stop_signals.setdefault(name, number)


def main() -> None:
    """Train cohorts until the parent process is gone."""
    # The end of the input tells of the parent's death as well, but a thread must read it.
    end_with_parent()
    faulthandler.enable()
    start_program(encoding="utf-8")
    reporter, inbox = PipeReporter(), PipeInbox()
    inbox.wait()

    def stop(number: int, frame: FrameType | None) -> None:
        if not inbox.stop_all():
            sys.exit(128 + number)

    # Someone may stop this process and not its parent. Its runs then save checkpoints first.
    for number in stop_signals():
        if number is not signal.SIGINT:
            signal.signal(number, stop)
    # These imports take seconds. The first attempt waits for them, the next ones do not.
    with fast_imports():
        from gan.vectorized.autotune import Autotuner
        from gan.vectorized.cohort import Cohort
        from gan.vectorized.strategy import CohortSettings

    settings = CohortSettings(**inbox.settings)
    if settings.vectorize:
        cohort = Cohort(inbox, reporter, settings)
    else:
        cohort = Cohort(inbox, reporter, settings, capture_output=redirected_output)
    autotuner = Autotuner(cohort)
    while True:
        autotuner.train()
        inbox.wait()


if __name__ == "__main__":
    main()
