"""The dimensions of a search as distributions of Optuna."""

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gan.errors import UserError
from gan.sweep.space import Dimension, Space

Distributions = dict[str, BaseDistribution]
"""Distributions by the names of dimensions. The values of a choice are labels."""


def distributions_of(space: Space) -> Distributions:
    """Return the distribution of each swept dimension.

    Raises:
        UserError: an interval is empty.
    """
    found: Distributions = {}
    for one in space.swept:
        try:
            found[one.name] = _distribution(one)
        except ValueError as error:
            raise UserError(f"{one.text}: {error}") from error
    return found


def parameter(distribution: BaseDistribution, label: str) -> Any:
    """Return the value of Optuna's parameter for a label."""
    if isinstance(distribution, IntDistribution):
        return int(label)
    return float(label) if isinstance(distribution, FloatDistribution) else label


def _distribution(dimension: Dimension) -> BaseDistribution:
    if interval := dimension.interval:
        start, end, log = interval.start, interval.end, "log" in interval.tags
        assert start is not None
        assert end is not None
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=log)
        return FloatDistribution(start, end, log=log)
    labels = list(dimension.options)
    if numbers := dimension.rising_range:
        # The end of Hydra's ranges is not one of their values.
        start, step = numbers.start, numbers.step
        assert start is not None
        if isinstance(start, int) and isinstance(step, int):
            return IntDistribution(start, int(labels[-1]), step=step)
        return FloatDistribution(start, float(labels[-1]), step=step)
    return CategoricalDistribution(labels)
