"""A tracker as another package would write it, and ways in which it may fail."""

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan.run.trackers import TrackedRun

never = threading.Event()
"""An event that does not come before a test sets it."""


class Notebook:
    """Writes everything into a file for each run, in one folder for all runs.

    Args:
        folder: for the files.
        trouble: what goes wrong: "raises", "exits", "hangs" or nothing.
        calls: the number of the first call of `scalars` at which it goes wrong.
        until: the number of the first such call at which all is well again.
    """

    def __init__(self, folder: str, trouble: str | None = None, calls: int = 1, until: int = 10**9):
        self._folder, self._trouble = Path(folder), trouble
        self._bad, self._calls = range(calls, until), 0

    def start(self, run: TrackedRun) -> int:
        """See Tracker."""
        self._folder.mkdir(exist_ok=True)
        self._file = self._folder / f"{run.id}.jsonl"
        facts = {"name": run.name, "group": run.group, "lr": run.config["optimizer.lr"]}
        self._write("start", facts)
        return max((step for step, _ in scalars(self._file)), default=0)

    def scalars(self, values: Mapping[int, Mapping[str, float]]) -> None:
        """See Tracker."""
        self._calls += 1
        if self._calls in self._bad:
            if self._trouble == "raises":
                raise ConnectionError("nobody is\nthere")
            if self._trouble == "exits":
                raise SystemExit(3)
            if self._trouble == "hangs":
                never.wait()
        for step, record in values.items():
            self._write("scalars", [step, dict(record)])

    def image(self, step: int, tag: str, png: bytes) -> None:
        """See Tracker."""
        assert png.startswith(b"\x89PNG")
        self._write("image", [step, tag])

    def finish(self, status: str) -> None:
        """See Tracker."""
        self._write("finish", status)

    def _write(self, what: str, value: object) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps([what, value]) + "\n")


class Careless:
    """A tracker that cannot even be made."""

    def __init__(self) -> None:
        raise OSError("no such socket")


def entries(file: Path, what: str) -> list[Any]:
    """Return what was written into a notebook's file, of one kind."""
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [value for kind, value in lines if kind == what]


def scalars(file: Path) -> list[tuple[int, dict[str, float]]]:
    """Return the steps and values in a notebook's file."""
    return [(step, values) for step, values in entries(file, "scalars")]
