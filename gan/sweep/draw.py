"""Points of a random search, drawn from a space."""

import itertools
import math
import random
from collections.abc import Callable, Iterator

from gan.errors import UserError
from gan.seeds import derive_seed
from gan.sweep.space import Dimension, Point, Space

Draw = Callable[[random.Random], str | float]
"""A function that draws a value of a dimension: a label, or a number."""


def refuse_single_point(space: Space) -> None:
    """Refuse a search that has nothing to choose.

    Raises:
        UserError: no dimension varies.
    """
    if not space.swept:
        raise UserError(
            "nothing to search over: give a key several values or an interval, "
            "as in 'optimizer.lr=tag(log, interval(1e-5, 1e-3))'"
        )


def random_points(space: Space, seed: int) -> Iterator[Point]:
    """Yield points without end, whose swept values are drawn independently.

    Args:
        seed: decides which points these are.

    Raises:
        UserError: nothing is left to choose, or an interval is empty.
    """
    refuse_single_point(space)
    draws = {one.name: _draw(one) for one in space.swept}
    for number in itertools.count():
        # A dimension more or less leaves the values of the others alone.
        yield space.point(
            lambda name, number=number: draws[name](  # type: ignore[misc]
                random.Random(derive_seed(seed, "search", number, name))
            )
        )


def _draw(dimension: Dimension) -> Draw:
    """Return the function that draws a value of a dimension.

    Raises:
        UserError: there is no value.
    """
    interval = dimension.interval
    if interval is None:
        labels = list(dimension.options)
        return lambda numbers: labels[int(numbers.random() * len(labels))]
    low, high, is_log = interval.start, interval.end, "log" in interval.tags
    assert low is not None
    assert high is not None
    if low > high:
        raise UserError(f"{dimension.text}: must not end below its start")
    if is_log and low <= 0:
        raise UserError(f"{dimension.text}: must start above 0, for its logarithm")
    is_whole = isinstance(low, int) and isinstance(high, int)
    # Each whole number stands for the numbers that are rounded to it.
    first, last = (low - 0.5, high + 0.5) if is_whole else (low, high)
    if is_log:
        first, last = math.log(first), math.log(last)

    def draw(numbers: random.Random) -> float:
        place = first + (last - first) * numbers.random()
        value = math.exp(place) if is_log else place
        return min(max(round(value), low), high) if is_whole else value

    return draw
