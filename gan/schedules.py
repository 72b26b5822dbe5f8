"""Schedules of the learning rate, as pure functions of the step.

A schedule returns the factor by which the learning rates of both networks are multiplied at a step,
counted from 0. It keeps no state, so a resumed run goes on where it was.
"""

import math
from collections.abc import Callable
from typing import Annotated

from annotated_types import Ge, Le

Schedule = Callable[[int], float]
"""A function from the step, counted from 0, to the factor of the learning rates."""

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
