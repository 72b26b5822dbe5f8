"""Time several things side by side."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import torch

Steps = Callable[[int], None]
"""A function that makes so many training steps and waits until the device has done them."""

Cost = tuple[float, float]
"""Seconds of wall time, and of CPU."""


def median_seconds(rows: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the seconds that each function takes, as medians over the rounds.

    A round calls every function once, so that whatever else the machine does slows all of them
    down. One more round before the others is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(rounds + 1):
        for name, function in rows.items():
            start = time.perf_counter()
            function()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def wait_for(device: "torch.device") -> None:
    """Wait until a device has done all that it was given."""
    # Late, as sweeps are timed without torch in this process.
    import torch

    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def timing_table(columns: Sequence[str], *, title: str, caption: str | None = None) -> Table:
    """Return an empty table: names in the first column, numbers in the others."""
    table = Table(title=title, caption=caption)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def print_costs(title: str, costs: Mapping[str, Sequence[Cost]]) -> None:
    """Print the median cost of each row over the rounds."""
    table = timing_table(("", "wall s", "CPU s"), title=title)
    for name, rounds in costs.items():
        medians = [statistics.median(seconds) for seconds in zip(*rounds, strict=True)]
        table.add_row(name, *(f"{value:.2f}" for value in medians))
    Console().print(table)
