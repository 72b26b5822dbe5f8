"""A worker process: `python -m gan.launchers.worker`.

It reads messages from its standard input, a line for each, and writes its events in the same way:
see gan.launchers.messages. It trains a cohort: one run after the other, or many at a time, as the
settings say.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, TextIO

from gan.launchers.attempt import redirected_output
from gan.launchers.messages import MessageInbox, MessageReporter
from gan.run.signals import stop_signals
from gan.system.startup import end_with_parent, fast_imports, start_program


class PipeReporter(MessageReporter):
    """Writes events for the parent process to what was the standard output."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
        # From now on, what is printed goes to the standard error.
        os.dup2(2, 1)

    def send(self, event: str, **fields: Any) -> None:
        """See MessageReporter."""
        self._file.write(json.dumps({"event": event, **fields}) + "\n")


class PipeInbox(MessageInbox):
    """Messages of the parent process.

    A thread reads them as they come. When the input ends, the parent process is gone or has no more
    use for this one, which then ends at once: its runs have their last checkpoints.
    """

    def __init__(self) -> None:
        super().__init__()
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> None:
        """Wait until there is an attempt."""
        with self._changed:
            self._handed_out.clear()
            self._changed.wait_for(lambda: self._attempts)

    def _listen(self) -> None:
        for line in sys.stdin:
            self.take(json.loads(line))
        os._exit(1)


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
