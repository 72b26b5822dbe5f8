"""Feeding trackers from the files of a run, in threads that training never waits for."""

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from gan.errors import first_line
from gan.metrics.catalogue import METRICS
from gan.run.directory import METRICS_FILE, REAL_FILE, SAMPLES
from gan.run.pictures import sample_file, sample_files
from gan.run.result import best_values
from gan.run.trackers import END_SECONDS, TrackedRun, Tracker

log = logging.getLogger(__name__)

ROUND_SECONDS = 2.0
"""Seconds from one delivery to the next. What was written meanwhile is sent together."""
LONGEST_PAUSE = 300.0
"""Seconds until a tracker that keeps failing is tried again. The first pauses are shorter."""
ANSWER_SECONDS = 60.0
"""Seconds that a delivery may take until the user is told."""

_patience: dict[str, float] = {}
"""Seconds left of END_SECONDS by tracker, so that many runs do not wait for one that hangs."""


class Trackers:
    """The trackers of one run.

    They read what the run has written, so nothing is lost while a tracker is away, and what a
    resumed run writes again is not sent again.
    """

    def __init__(self, trackers: Mapping[str, Tracker], run: TrackedRun):
        self._feeds = [_Feed(name, tracker, run) for name, tracker in trackers.items()]

    def notify(self) -> None:
        """Tell the trackers that something was written, and warn of one that fails, once."""
        for feed in self._feeds:
            feed.news.set()
            feed.warn()

    def finish(self, status: str, *, wait: bool = True) -> None:
        """Let the trackers end the run, and wait END_SECONDS at most."""
        for feed in self._feeds:
            feed.end(status)
        deadline = time.monotonic() + END_SECONDS
        for feed in self._feeds:
            if wait:
                feed.wait_until(deadline)
            feed.warn()


class _Feed:
    """Hands the records and pictures of one run to one tracker."""

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun):
        self.news = threading.Event()
        """Something was written, or the run has ended."""
        self.news.set()
        self._name, self._tracker, self._run = name, tracker, run
        self._status: str | None = None
        self._ended = threading.Event()
        self._is_started = False
        self._has_begun = False
        """The tracker holds the pictures of step 0, or values that came after them."""
        self._offset = 0
        """The bytes of metrics.jsonl that were read."""
        self._sent = 0
        """The last step whose values the tracker holds."""
        self._pictured: int | None = None
        """The last step whose picture the tracker holds. Unknown before the first start."""
        self._best: dict[str, dict[str, float]] = {}
        self._failure: str | None = None
        self._busy_since: float | None = None
        self._has_warned = False
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"tracker {name}")
        self._thread.start()

    def end(self, status: str) -> None:
        """Ask for the last delivery."""
        self._status = str(status)
        self._ended.set()
        self.news.set()

    def wait_until(self, deadline: float) -> None:
        """Wait for the last delivery, if there is patience left for this tracker."""
        began, patience = time.monotonic(), _patience.get(self._name, END_SECONDS)
        self._thread.join(max(0.0, min(patience, deadline - began)))
        if self._thread.is_alive():
            _patience[self._name] = max(0.0, patience - (time.monotonic() - began))
            self._failure = self._failure or f"has not answered within {END_SECONDS:g} seconds"
        else:
            _patience[self._name] = END_SECONDS

    def warn(self) -> None:
        """Warn the user of a failure, once for each run."""
        since = self._busy_since
        if since is not None and time.monotonic() - since > ANSWER_SECONDS:
            self._failure = self._failure or f"has not answered for {ANSWER_SECONDS:g} seconds"
        if self._failure and not self._has_warned:
            self._has_warned = True
            log.warning(
                "tracker %s: %s; training goes on, and %s has all values",
                self._name,
                self._failure,
                METRICS_FILE,
            )

    def _work(self) -> None:
        pause = ROUND_SECONDS
        while True:
            self.news.wait()
            self.news.clear()
            # Read before the delivery: what is written later wakes this thread again.
            status = self._status
            self._busy_since = time.monotonic()
            try:
                self._deliver()
                if status:
                    self._tracker.finish(status)
                pause = ROUND_SECONDS
            except BaseException as error:
                # Whatever a library raises, even SystemExit, must not be seen on the terminal.
                # An address may hold a password.
                reason = re.sub(r"//[^/@\s]+@", "//", first_line(error))
                self._failure = self._failure or reason
                self._is_started = False
                pause = min(2 * pause, LONGEST_PAUSE)
            self._busy_since = None
            if status:
                return
            self._ended.wait(pause)

    def _deliver(self) -> None:
        if not self._is_started:
            self._sent = self._tracker.start(self._run)
            self._is_started, self._offset, self._best = True, 0, {}
            self._has_begun = self._sent > 0
        if self._pictured is None:
            self._pictured = self._sent
        # A record is written before the picture of its step, so that none comes after it here.
        pictures = self._new_pictures()
        values = self._new_values()
        if not self._has_begun and (values or pictures):
            self._send_first_pictures()
            self._has_begun = True
        for step, path in pictures:
            self._send({earlier: values.pop(earlier) for earlier in list(values) if earlier < step})
            self._tracker.image(step, "samples", path.read_bytes())
            self._pictured = step
        self._send(values)

    def _send(self, values: dict[int, dict[str, float]]) -> None:
        if values:
            self._tracker.scalars(values)
            self._sent = max(values)

    def _send_first_pictures(self) -> None:
        """Send the pictures of step 0, which must come first: W&B takes no step that goes back."""
        first = {
            "real": self._run.run_dir / SAMPLES / REAL_FILE,
            "samples": sample_file(self._run.run_dir, 0),
        }
        for tag, path in first.items():
            if path.exists():
                self._tracker.image(0, tag, path.read_bytes())

    def _new_values(self) -> dict[int, dict[str, float]]:
        with (self._run.run_dir / METRICS_FILE).open("rb") as file:
            file.seek(self._offset)
            # The last line may still be being written.
            lines, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(lines + newline)
        values = {}
        for record in map(json.loads, lines.splitlines()):
            self._best = best_values([record], self._best)
            step = record.pop("step")
            if step > self._sent:
                measured = [name for name in METRICS if name in record]
                best = {f"best/{name}": self._best[name]["value"] for name in measured}
                values[step] = record | best
        return values

    def _new_pictures(self) -> list[tuple[int, Path]]:
        pictured = self._pictured
        assert pictured is not None
        paths = sample_files(self._run.run_dir)
        return [(step, path) for step, path in paths.items() if step > pictured]
