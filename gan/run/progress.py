"""Progress of a run: a line for each record and, on a terminal, a bar below them."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import Progress, Task
from rich.progress_bar import ProgressBar
from rich.table import Table

log = logging.getLogger(__name__)

ShowStep = Callable[[int, dict[str, Any] | None], None]
"""A function of the present step and of the values that were logged there, if any."""

OnProgress = Callable[[int, int, dict[str, Any] | None], None]
"""A function of the present step, the last step, and the values that were logged, if any."""

LINE_WIDTH = 80
"""The width in characters that lines of values keep to."""

MIN_BAR_WIDTH = 12
"""The width in characters that a bar has at least."""


@contextmanager
def progress(
    start: int, total: int, *, enabled: bool, on_progress: OnProgress | None = None
) -> Iterator[ShowStep]:
    """Yield a function that shows the present step. The log file gets lines in any case.

    Args:
        start: the step at which training begins.
        total: the step at which it ends.
        enabled: log lines on the console, with a bar below them on a terminal.
        on_progress: is called instead, and nothing is shown here.
    """
    level = logging.INFO if enabled and not on_progress else logging.DEBUG

    def write_lines(step: int, record: dict[str, Any] | None) -> None:
        prefix = f"step {step:{len(str(total))}d}/{total}  "
        for values in summaries(record or {}, LINE_WIDTH - len(prefix)):
            log.log(level, "%s%s", prefix, values)

    if on_progress:

        def report(step: int, record: dict[str, Any] | None) -> None:
            on_progress(step, total, record)
            write_lines(step, record)

        yield report
        return
    console = Console()
    if not (enabled and console.is_terminal):
        yield write_lines
        return
    with _bar(console) as bar:
        task = bar.add_task("", total=total, completed=start, values="")

        def move_bar(step: int, record: dict[str, Any] | None) -> None:
            write_lines(step, record)
            bar.update(task, completed=step)
            if record is not None:
                bar.update(task, values=summaries(record, LINE_WIDTH)[0])

        yield move_bar


def summaries(record: dict[str, Any], width: int) -> list[str]:
    """Return a record in lines of that many characters: first the losses with D of real and of
    fake samples, then the metrics."""
    short = {
        "loss/discriminator": "D loss",
        "loss/generator": "G loss",
        "prob/real": "D(x)",
        "prob/fake": "D(G(z))",
    }
    training = [f"{short[name]} {record[name]:.3f}" for name in short if name in record]
    metrics = [name for name in record if "/" not in name and name not in ("step", "epoch")]
    measured = [f"{name} {record[name]:.4g}" for name in metrics]
    lines = ["  ".join(training)] if training else []
    for number, text in enumerate(measured):
        if number and len(lines[-1]) + 2 + len(text) <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines


def bar_line(task: Task, width: int) -> RenderableType:
    """Return the step, a bar, the time left, the rate and the last values in `width` characters.

    The values are left out first, and then the rate.
    """
    total = int(task.total or 0)
    step = f"{int(task.completed):{len(str(total))}d}/{total}"
    remaining = task.time_remaining
    left = f"{'-:--' if remaining is None else duration(remaining)} left"
    rate = f"{task.speed:.0f} steps/s" if task.speed else "- steps/s"
    shown, room = [left], width - len(step) - len(left) - MIN_BAR_WIDTH - 2
    for text in (rate, task.fields.get("values")):
        if not text or (room := room - len(text) - 2) < 0:
            break
        shown.append(text)
    texts = "  ".join(shown)
    bar_width = max(1, width - len(step) - len(texts) - 2)
    line = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=total, completed=task.completed, width=min(bar_width, 60))
    line.add_row(step, bar, texts)
    return line


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 thread" or "15,000 steps"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time such as "12 s", "2:31" or "1:02:31"."""
    # A clock may go back.
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Bar(Progress):
    """A progress bar that fits into the terminal at any width."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the line of each task."""
        # The last column stays empty: some terminals begin a new line when it is filled.
        yield from (bar_line(task, self.console.width - 1) for task in self.tasks)


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    """Show a bar within the block. What is logged on the console appears above it."""
    loggers = logging.getLogger(), logging.getLogger("gan")
    streams = {"stdout": sys.stdout, "stderr": sys.stderr}
    moved: list[tuple[logging.StreamHandler[Any], Any]] = []
    # A bar that ends leaves its place to the report of the run's end.
    with _Bar(console=console, refresh_per_second=4, transient=True) as bar:
        for handler in (handler for logger in loggers for handler in logger.handlers):
            for name, stream in streams.items():
                if isinstance(handler, logging.StreamHandler) and handler.stream is stream:
                    handler.setStream(getattr(sys, name))
                    moved.append((handler, stream))
                    break
        try:
            yield bar
        finally:
            for handler, stream in moved:
                handler.setStream(stream)
