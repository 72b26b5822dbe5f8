"""Reports of a sweep: a live table on a terminal, lines elsewhere, and tables at the end."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gan.errors import printable
from gan.launchers.base import Note, Progress, Requeued, Started
from gan.metrics.catalogue import METRICS, direction, sign
from gan.run.progress import duration
from gan.run.result import FINISHED, Result, Status
from gan.sweep.schedule import JobEnded, Retry, ScheduleEvent
from gan.system.invocation import as_seen_here, commands

PLAIN_WIDTH = 160
"""The width of a page in characters where there is no terminal to ask."""

UNORDERED = "nothing was measured (metrics=none), so the runs are in no order"
"""A line about runs without an objective."""

STYLES = {
    "completed": "green",
    "stopped": "green",
    "diverged": "magenta",
    "failed": "red",
    "interrupted": "yellow",
    "pruned": "cyan",
    "running": "blue",
}
"""The colours of statuses."""


def console(width: int = PLAIN_WIDTH) -> Console:
    """Return the standard output for plain text, `width` characters wide if it is no terminal."""
    terminal = Console(highlight=False, emoji=False, markup=False)
    if terminal.is_terminal:
        return terminal
    return Console(highlight=False, emoji=False, markup=False, width=width)


class LiveDisplay:
    """Shows the events of a sweep."""

    def __init__(self, total: int, done: Iterable[float | None], objective: str | None):
        """Show nothing yet.

        Args:
            total: the number of runs, those that were done before included.
            done: the objectives of the runs that were done before.
            objective: the name of the objective, if the runs have one.
        """
        self._console = console()
        self._total = total
        self._objective = objective
        self._counts: Counter[Status] = Counter()
        self._running: dict[str, _RunningJob] = {}
        self._notes: set[str] = set()
        self._best: tuple[float, str] | None = None
        self._done_before = 0
        self._began = time.monotonic()
        for value in done:
            self._done_before += 1
            self._note_objective(value, "an earlier run")

    @contextmanager
    def live(self) -> Iterator[None]:
        """See Display."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._state, console=self._console, refresh_per_second=4):
            yield

    def show(self, event: ScheduleEvent) -> None:
        """See Display."""
        if isinstance(event, Started):
            self._running[event.name] = _RunningJob()
        elif isinstance(event, Progress):
            self._running.setdefault(event.name, _RunningJob()).follow(event)
        elif isinstance(event, Requeued):
            self._running.pop(event.name, None)
            if event.reason:
                self._print(f"{event.name}: {event.reason}; goes on when there is room", "yellow")
        elif isinstance(event, Retry):
            self._running.pop(event.job.name, None)
            self._print(f"{event.job.name}: {event.reason}; trying again", "yellow")
        elif isinstance(event, Note):
            if event.text not in self._notes:
                self._notes.add(event.text)
                self._print(event.text, "")
        else:
            self._show_end(event)

    def _show_end(self, event: JobEnded) -> None:
        running = self._running.pop(event.job.name, None)
        self._counts[event.status] += 1
        self._note_objective(event.objective, event.job.name)
        if event.status is Status.INTERRUPTED:
            return
        done = self._done_before + sum(self._counts.values())
        line = f"[{done}/{self._total}] {event.job.name}: {event.status}"
        if event.reason:
            line += f", {event.reason}"
        if event.objective is not None and math.isfinite(event.objective):
            line += f", {self._objective} {event.objective:.4g}"
        if running:
            line += f", {duration(time.monotonic() - running.began)}"
        self._print(line, STYLES.get(event.status, ""))

    def _note_objective(self, objective: float | None, name: str) -> None:
        if self._objective and objective is not None and math.isfinite(objective):
            candidate = (objective, name)
            order = [candidate, self._best] if self._best else [candidate]
            lowest = sign(self._objective)
            self._best = min(order, key=lambda one: (lowest * one[0], one[1]))

    def _print(self, line: str, style: str) -> None:
        self._console.print(Text(line, style=style), soft_wrap=True)

    def _state(self) -> RenderableType:
        summary = Text(self._summary_line(), style="bold")
        if not self._running:
            return summary
        table = Table(box=None, pad_edge=False, expand=True)
        # The ends of names differ, so they are not cut off.
        table.add_column("running", ratio=1, overflow="fold")
        for name in ("step", "left", *([self._objective] if self._objective else [])):
            table.add_column(name, justify="right", no_wrap=True)
        for name, running in sorted(self._running.items()):
            table.add_row(name, *running.cells(self._objective))
        return Group(summary, table)

    def _summary_line(self) -> str:
        ended = sum(self._counts.values())
        interrupted = self._counts[Status.INTERRUPTED]
        others = {s: n for s, n in self._counts.items() if n and s is not Status.COMPLETED}
        done = f"{self._done_before + ended - interrupted}/{self._total} done"
        done += f" ({', '.join(f'{n} {s}' for s, n in others.items())})" if others else ""
        parts = [done]
        left = self._total - self._done_before - ended
        if self._running:
            parts.append(f"{len(self._running)} running")
        elif left and not ended:
            parts.append("starting")
        if queued := max(0, left - len(self._running)):
            parts.append(f"{queued} queued")
        if ended and left:
            parts.append(f"{duration((time.monotonic() - self._began) / ended * left)} left")
        if self._best:
            parts.append(f"best {self._objective} {self._best[0]:.4g} ({self._best[1]})")
        return ", ".join(parts)


class _RunningJob:
    """The progress of a job that runs."""

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

    def cells(self, objective: str | None) -> list[str]:
        """Return the step, the time left and, if the runs have an objective, its value."""
        if not self._total:
            return ["starting"]
        assert self._first
        steps, seconds = self._step - self._first[0], time.monotonic() - self._first[1]
        left = duration((self._total - self._step) * seconds / steps) if steps else ""
        cells = [f"{self._step}/{self._total}", left]
        if objective and (value := self._values.get(objective)) is not None:
            cells.append(f"{value:.4g}")
        return cells


StatusRow = tuple[str, Status, Result | None]
"""The name of a run, its status, and its result if it has one."""


def print_runs(rows: Iterable[StatusRow], objective: str | None) -> None:
    """Print a table of runs, best first; in the order that they have if there is no objective."""
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("status")
    for name in (*([objective] if objective else []), "steps", "time"):
        table.add_column(name, justify="right")

    def order(row: StatusRow) -> tuple[bool, float, str]:
        value = row[2]["objective"] if row[2] else None
        return value is None, sign(objective or "") * (value or 0.0), row[0]

    for name, status, result in sorted(rows, key=order) if objective else rows:
        value = result["objective"] if result and status is not Status.FAILED else None
        cells = ["" if value is None else f"{value:.4g}"] if objective else []
        if result:
            cells.append(str(result["steps"]))
            cells.append(duration(result["seconds"]) if result["seconds"] else "")
        table.add_row(name, Text(status.value, STYLES.get(status, "")), *cells)
    console().print(table)
    print_order(objective)


def print_order(objective: str | None) -> None:
    """Print which way the objective of a table gets better."""
    if objective is None:
        line = UNORDERED
    elif objective in METRICS:
        line = f"{objective}: {direction(objective).adjective} is better"
    else:
        line = f"{objective}: is no measure of the samples; low values come first"
    console().print(line, soft_wrap=True)


def print_ways(
    objective: str | None, labels: Iterable[str], protocols: Iterable[str | None] = ()
) -> None:
    """Print a warning if the objective was measured in several ways (see `gan.run.measured`), and
    the protocol if there is one.

    Values of losses and the like are not measured in any way.
    """
    if (names := set(protocols)) != {None} and len(names) == 1 and objective in METRICS:
        console().print(f"{objective}: measured by protocol={names.pop()}", soft_wrap=True)
    different = list(dict.fromkeys(labels))
    if len(different) > 1 and objective in METRICS:
        line = f"{objective} was measured in ways that do not compare, so its order means nothing: "
        console().print(line + "; ".join(different), soft_wrap=True)


def print_points(points: Iterable[tuple[str, list[float]]], objective: str) -> None:
    """Print a table of points that were repeated over seeds, best first.

    It holds the median and the interquartile range (IQR) of the objectives of finished runs.
    """
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


def spread(values: list[float]) -> tuple[float, float]:
    """Return the median and the interquartile range of values, some of them perhaps infinite."""
    if len(values) < 2:
        return values[0], 0.0
    # Interpolating between values would multiply infinity by zero, which is not a number.
    huge = 1e300
    bounded = [max(-huge, min(value, huge)) for value in values]
    low, median, high = statistics.quantiles(bounded, n=4, method="inclusive")
    iqr = high - low
    beyond = abs(median) > huge / 8
    return math.copysign(math.inf, median) if beyond else median, (
        math.inf if iqr > huge / 8 else iqr
    )


def print_plan(rows: Iterable[StatusRow], left: set[str], at_a_time: int) -> None:
    """Print what a sweep would do.

    Args:
        left: the names of the runs that are left to run.
        at_a_time: how many of them run at the same time.
    """
    rows = list(rows)
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    table.add_column("now")
    table.add_column("would")
    for name, status, _ in rows:
        would = "run" if status is Status.NEW else "continue" if name in left else ""
        now = "done" if status in FINISHED else status.value
        table.add_row(name, Text(now, STYLES.get(status, "")), would)
    console().print(table)
    line = f"{len(rows)} runs, {len(rows) - len(left)} done, {len(left)} to run"
    seconds = [result["seconds"] for _, status, result in rows if result and status in FINISHED]
    if seconds and left:
        estimate = sum(seconds) / len(seconds) * math.ceil(len(left) / at_a_time)
        line += f": about {duration(estimate)}, {at_a_time} at a time, going by the finished ones"
    elif left:
        line += f", {at_a_time} at a time; no finished run to estimate the time from"
    console().print(line, soft_wrap=True)


def print_next_steps(path: Path) -> None:
    """Print what can be done with a sweep that has ended, as commands."""
    sweep = as_seen_here(path)
    text = commands(
        ("compare its runs: a table, and a page with curves and samples", "compare", sweep),
        ("", "compare", sweep, "html=report.html"),
        ("see curves and samples in TensorBoard", "board", sweep),
    )
    console().print(text, soft_wrap=True)


def print_failures(failures: Iterable[tuple[str, str | None, Path | None]]) -> None:
    """Print why runs failed, and where to look if there is a log."""
    for name, reason, log in failures:
        line = f"failed: {name}: {reason or 'for a reason unknown'}{f'; log: {log}' if log else ''}"
        console().print(Text(printable(line), "red"), soft_wrap=True)
