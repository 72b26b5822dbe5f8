"""Progress of a run: a bar on a terminal, lines elsewhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

ShowStep = Callable[[int, dict[str, Any] | None], None]
"""A function of the present step and of the values that were logged there, if any."""

OnProgress = Callable[[int, int, dict[str, Any] | None], None]
"""A function of the present step, the last step, and the values that were logged, if any."""


@contextmanager
def progress(
    start: int, total: int, *, enabled: bool, on_progress: OnProgress | None = None
) -> Iterator[ShowStep]:
    """Yield a function that shows the present step. The log file gets lines in any case.

    Args:
        start: the step at which training begins.
        total: the step at which it ends.
        enabled: show a bar on a terminal, and log lines elsewhere.
        on_progress: is called instead, and nothing is shown here.
    """
    level, console = logging.DEBUG, Console()

    def write_line(step: int, record: dict[str, Any] | None) -> None:
        if record is not None:
            log.log(level, "step %d/%d  %s", step, total, summary(record))

    if on_progress:

        def report(step: int, record: dict[str, Any] | None) -> None:
            on_progress(step, total, record)
            write_line(step, record)

        yield report
        return
    if not (enabled and console.is_terminal):
        level = logging.INFO if enabled else logging.DEBUG
        yield write_line
        return
    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=None),
        _StepRate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        task = bar.add_task("", total=total, completed=start, values="")

        def move_bar(step: int, record: dict[str, Any] | None) -> None:
            bar.update(task, completed=step)
            if record is not None:
                bar.update(task, values=summary(record))
            write_line(step, record)

        yield move_bar


def summary(record: dict[str, Any]) -> str:
    """Return a record in one line: the losses, D of real and of fake samples, and the metrics."""
    short = {
        "loss/discriminator": "D loss",
        "loss/generator": "G loss",
        "prob/real": "D(x)",
        "prob/fake": "D(G(z))",
    }
    metrics = [name for name in record if "/" not in name and name not in ("step", "epoch")]
    labels = short | {name: name for name in metrics}
    shown = {label: record[name] for name, label in labels.items() if name in record}
    return "  ".join(f"{label} {value:.3f}" for label, value in shown.items())


class _StepRate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} steps/s" if task.speed else "- steps/s")
