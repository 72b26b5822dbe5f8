"""How a run tells where it is: a bar on a terminal, lines elsewhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

log = logging.getLogger(__name__)

Update = Callable[[int, dict[str, Any] | None], None]
"""Called after each step, with the values logged there, if any."""

Watch = Callable[[int, int, dict[str, Any] | None], None]
"""Like Update, with the step the run ends at in the middle."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Within the block, runs tell `watch` where they are and not the terminal."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def progress(start: int, total: int, enabled: bool) -> Iterator[Update]:
    """Show the steps from `start` to `total`; the log file gets lines in any case."""
    if watch := _watch.get():

        def report(step: int, record: dict[str, Any] | None) -> None:
            watch(step, total, record)
            if record is not None:
                log.debug("step %d/%d  %s", step, total, summary(record))

        yield report
        return
    console = Console()
    if not (enabled and console.is_terminal):
        level = logging.INFO if enabled else logging.DEBUG

        def write(step: int, record: dict[str, Any] | None) -> None:
            if record is not None:
                log.log(level, "step %d/%d  %s", step, total, summary(record))

        yield write
        return
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("", total=total, completed=start, values="")

        def show(step: int, record: dict[str, Any] | None) -> None:
            if record is None:
                bar.update(task, completed=step)
            else:
                bar.update(task, completed=step, values=summary(record))
                log.debug("step %d/%d  %s", step, total, summary(record))

        yield show


def summary(record: dict[str, Any]) -> str:
    """A record in a line: the losses, D at real and at fake images, and any metrics."""
    short = {
        "loss/discriminator": "D loss",
        "loss/generator": "G loss",
        "prob/real": "D(x)",
        "prob/fake": "D(G(z))",
    }
    measured = [name for name in record if "/" not in name and name not in ("step", "epoch")]
    names = short | {name: name for name in measured}
    shown = {label: record[name] for name, label in names.items() if name in record}
    return "  ".join(f"{label} {value:.3f}" for label, value in shown.items())


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} steps/s" if task.speed else "- steps/s")
