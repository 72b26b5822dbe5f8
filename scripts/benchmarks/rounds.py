"""Timing things side by side."""

import statistics
import time
from collections.abc import Callable, Mapping


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
