"""Schedules of numbers that change while a run trains, as pure functions of the step.

They keep no state, so a resumed run goes on where it was.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Annotated

from annotated_types import Ge, Le

Schedule = Callable[[int], float]
"""A function from the step, counted from 0, to the value of a number at that step: for an option
of the group `schedule` to the factor of both learning rates."""

Fraction = Annotated[float, Ge(0), Le(1)]


def linear(*, total_steps: int, start: Fraction, end: Fraction) -> Schedule:
    """Keep the learning rate, then decay it linearly, as WGAN-GP does (arXiv:1704.00028).

    Args:
        total_steps: the step at which training ends.
        start: share of the steps after which the decay begins.
        end: factor that would be reached after the last step.
    """
    first = start * total_steps

    def factor(step: int) -> float:
        if step <= first:
            return 1.0
        return 1.0 + (end - 1.0) * (step - first) / (total_steps - first)

    return factor


def cosine(*, total_steps: int, warmup: Fraction, end: Fraction) -> Schedule:
    """Raise the learning rate linearly, then decay it by half a cosine (arXiv:1608.03983).

    Args:
        total_steps: the step at which training ends.
        warmup: share of the steps in which the factor rises to 1.
        end: factor that would be reached after the last step.
    """
    rising = warmup * total_steps

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        progress = (step - rising) / max(total_steps - rising, 1)
        return end + (1.0 - end) * (1.0 + math.cos(math.pi * progress)) / 2

    return factor


def curve(values: Sequence[float], at: Sequence[float], shape: str) -> Callable[[float], float]:
    """Return the value at each place of a curve through values.

    Args:
        at: the place of each value, ascending. Before the first and after the last one, the curve
            stays at their values.
        shape: the way from one value to the next: linear, cosine (half a wave, arXiv:1608.03983),
            or step (the value stays until the next place).
    """

    def value(place: float) -> float:
        index = bisect_right(at, place) - 1
        if index < 0:
            return values[0]
        if index == len(values) - 1 or shape == "step":
            return values[index]
        start, end = values[index], values[index + 1]
        share = (place - at[index]) / (at[index + 1] - at[index])
        if shape == "cosine":
            share = (1.0 - math.cos(math.pi * share)) / 2
        return start + (end - start) * share

    return value
