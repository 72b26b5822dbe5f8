"""Timing things side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

Cost = tuple[float, float]
"""Seconds of wall time, and of CPU."""


def medians(rows: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds that each takes: the median over the rounds, in each of which all run once, so that
    whatever else the machine does falls on all of them. A first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, call in rows.items():
            begin = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_costs(title: str, costs: Mapping[str, Sequence[Cost]]) -> None:
    """The medians over the rounds of each row."""
    table = Table(title=title)
    for name in ("", "wall s", "CPU s"):
        table.add_column(name, justify="left" if not name else "right")
    for name, values in costs.items():
        medians = [statistics.median(part) for part in zip(*values, strict=True)]
        table.add_row(name, *(f"{value:.2f}" for value in medians))
    Console().print(table)
