"""What a sweep shows of itself: a live table on a terminal, lines elsewhere."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gan.launchers.pool import Note, Progress, Requeued, Started
from gan.metrics.catalogue import sign
from gan.sweep.schedule import Outcome, Retry, Told

if TYPE_CHECKING:
    from gan.commands.evaluate import Measured

PLAIN_WIDTH = 160
"""Columns where there is no terminal to ask."""

STYLES = {
    "completed": "green",
    "diverged": "magenta",
    "failed": "red",
    "interrupted": "yellow",
    "pruned": "cyan",
    "running": "blue",
}


def console(width: int = PLAIN_WIDTH) -> Console:
    """Standard output as it is, so many columns wide where it is no terminal."""
    shown = Console(highlight=False, emoji=False, markup=False)
    if shown.is_terminal:
        return shown
    return Console(highlight=False, emoji=False, markup=False, width=width)


class Display:
    """Follows the events of a sweep."""

    def __init__(self, total: int, done: Iterable[float | None], objective: str):
        """
        Args:
            total: runs of the sweep, those done before included.
            done: the objectives of these.
            objective: its name.
        """
        self._console = console()
        self._total = total
        self._objective = objective
        self._counts: Counter[str] = Counter()
        self._running: dict[str, _Running] = {}
        self._noted: set[str] = set()
        self._best: tuple[float, str] | None = None
        self._before = 0
        self._began = time.monotonic()
        for value in done:
            self._before += 1
            self._note(value, "an earlier run")

    @contextmanager
    def live(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=4):
            yield

    def follow(self, event: Told) -> None:
        if isinstance(event, Started):
            self._running[event.name] = _Running()
        elif isinstance(event, Progress):
            self._running.setdefault(event.name, _Running()).follow(event)
        elif isinstance(event, Requeued):
            self._running.pop(event.name, None)
            if event.reason:
                self._print(f"{event.name}: {event.reason}; goes on when there is room", "yellow")
        elif isinstance(event, Retry):
            self._running.pop(event.job.name, None)
            self._print(f"{event.job.name}: {event.reason}; trying again", "yellow")
        elif isinstance(event, Note):
            if event.text not in self._noted:
                self._noted.add(event.text)
                self._print(event.text, "")
        else:
            self._end(event)

    def _end(self, outcome: Outcome) -> None:
        run = self._running.pop(outcome.job.name, None)
        self._counts[outcome.status] += 1
        self._note(outcome.objective, outcome.job.name)
        if outcome.status == "interrupted":
            return
        done = self._before + sum(self._counts.values())
        line = f"[{done}/{self._total}] {outcome.job.name}: {outcome.status}"
        if outcome.reason:
            line += f", {outcome.reason}"
        if outcome.objective is not None:
            line += f", {self._objective} {outcome.objective:.4g}"
        if run:
            line += f", {_duration(time.monotonic() - run.began)}"
        if not self._console.is_terminal or outcome.status != "completed":
            self._print(line, STYLES.get(outcome.status, ""))

    def _note(self, objective: float | None, name: str) -> None:
        if objective is not None and math.isfinite(objective):
            candidate = (objective, name)
            order = [candidate, self._best] if self._best else [candidate]
            self._best = min(order, key=lambda one: (sign(self._objective) * one[0], one[1]))

    def _print(self, line: str, style: str) -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=True)
        table.add_column("running", ratio=1, no_wrap=True)
        for name in ("step", "left", self._objective):
            table.add_column(name, justify="right", no_wrap=True)
        for name, run in sorted(self._running.items()):
            table.add_row(name, *run.cells(self._objective))
        return Group(Text(self._line(), style="bold"), table)

    def _line(self) -> str:
        ended = sum(self._counts.values())
        parts = [f"{self._before + self._counts['completed']}/{self._total} done"]
        parts += [f"{len(self._running)} running"]
        parts += [f"{self._total - self._before - ended - len(self._running)} queued"]
        parts += [f"{n} {status}" for status, n in self._counts.items() if status != "completed"]
        if ended:
            left = self._total - self._before - ended
            parts.append(f"{_duration((time.monotonic() - self._began) / ended * left)} left")
        if self._best:
            parts.append(f"best {self._best[0]:.4g} ({self._best[1]})")
        return ", ".join(parts)


class _Running:
    def __init__(self) -> None:
        self.began = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._step, self._total = 0, 0
        self._values: dict[str, Any] = {}

    def follow(self, event: Progress) -> None:
        if self._first is None:
            self._first = event.step, time.monotonic()
        self._step, self._total = event.step, event.total
        self._values |= event.record or {}

    def cells(self, objective: str) -> tuple[str, str, str]:
        if not self._total:
            return "starting", "", ""
        assert self._first
        steps, seconds = self._step - self._first[0], time.monotonic() - self._first[1]
        left = _duration((self._total - self._step) * seconds / steps) if steps else ""
        value = self._values.get(objective)
        return f"{self._step}/{self._total}", left, "" if value is None else f"{value:.4g}"


def print_runs(rows: Iterable[tuple[str, str, dict[str, Any] | None]], objective: str) -> None:
    """A table of runs, best first: each one's name, status and result, if it has one."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status")
    for name in (objective, "steps", "time"):
        table.add_column(name, justify="right")

    def order(row: tuple[str, str, dict[str, Any] | None]) -> tuple[bool, float, str]:
        value = row[2]["objective"] if row[2] else None
        return value is None, sign(objective) * (value or 0.0), row[0]

    for name, status, result in sorted(rows, key=order):
        cells = ["", "", ""]
        if result:
            value = result["objective"]
            cells[0] = "" if value is None or status == "failed" else f"{value:.4g}"
            cells[1] = str(result["steps"])
            cells[2] = _duration(result["seconds"]) if result["seconds"] else ""
        table.add_row(name, Text(status, STYLES.get(status, "")), *cells)
    console().print(table)


def print_points(points: Iterable[tuple[str, list[float]]], objective: str) -> None:
    """A table of points that were repeated over seeds, best first: the median and the
    interquartile range of what their finished runs gave."""
    table = Table(box=None, pad_edge=False)
    table.add_column("point", overflow="fold")
    for name in ("seeds", f"median {objective}", "IQR"):
        table.add_column(name, justify="right")
    rows = [(name, values, spread(values)) for name, values in points if values]
    for name, values, (median, iqr) in sorted(
        rows, key=lambda row: (sign(objective) * row[2][0], row[2][1])
    ):
        table.add_row(name, str(len(values)), f"{median:.4g}", f"{iqr:.2g}")
    console().print(table)


def print_measured(rows: Sequence["Measured"]) -> None:
    """A table of runs and the metrics of their samples."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in ("step", "weights", *names):
        table.add_column(name, justify="right")
    for row in rows:
        values = (row.values.get(name) for name in names)
        cells = ("" if value is None else f"{value:.4g}" for value in values)
        table.add_row(row.name, "" if row.step is None else str(row.step), row.weights, *cells)
    console().print(table)


def spread(values: list[float]) -> tuple[float, float]:
    """The median and the interquartile range; infinite values are allowed."""
    if len(values) < 2:
        return values[0], 0.0
    # Between two values, infinity times zero would be no number.
    huge = 1e300
    bounded = [max(-huge, min(value, huge)) for value in values]
    low, median, high = statistics.quantiles(bounded, n=4, method="inclusive")
    iqr = high - low
    beyond = abs(median) > huge / 8
    return math.copysign(math.inf, median) if beyond else median, (
        math.inf if iqr > huge / 8 else iqr
    )


def print_plan(
    rows: Iterable[tuple[str, str, dict[str, Any] | None]], left: set[str], places: int
) -> None:
    """What a sweep would do: each run's name, status and result; which are left to run."""
    rows = list(rows)
    marks = {"completed": "done", "diverged": "done", "pruned": "done"}
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("now")
    table.add_column("would")
    for name, status, _ in rows:
        would = "run" if status == "new" else "continue" if name in left else ""
        table.add_row(name, Text(marks.get(status, status), STYLES.get(status, "")), would)
    console().print(table)
    line = f"{len(rows)} runs, {len(rows) - len(left)} settled, {len(left)} to run"
    seconds = [result["seconds"] for _, status, result in rows if result and status in marks]
    if seconds and left:
        estimate = sum(seconds) / len(seconds) * math.ceil(len(left) / places)
        line += f": about {_duration(estimate)}, {places} at a time, going by the finished ones"
    elif left:
        line += f", {places} at a time; no finished run to estimate the time from"
    console().print(line, soft_wrap=True)


def print_failures(failures: Iterable[tuple[str, str | None, Path]]) -> None:
    for name, reason, log in failures:
        line = f"failed: {name}: {reason or 'for a reason unknown'}; log: {log}"
        console().print(Text(line, "red"), soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
