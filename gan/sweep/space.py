"""The space of a search, read from Hydra's own syntax for sweeps."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gan.errors import UserError
from gan.sweep.draw import overrides_of_space

Space = dict[str, BaseDistribution]
"""Distributions by dotted key. The values of a choice are texts, as they stand in an override."""


def read_space(
    loader: ConfigLoader, arguments: Sequence[str], params: Mapping[str, str]
) -> tuple[Space, list[str]]:
    """Return the space, and the overrides that all points share.

    Args:
        arguments, params: see `overrides_of_space`.

    Raises:
        UserError: nothing is left to choose, or an interval is empty.
    """
    space: Space = {}
    fixed: list[str] = []
    for key, override in overrides_of_space(loader, arguments, params).items():
        assert override.input_line is not None
        if override.is_sweep_override():
            try:
                space[key] = _distribution(override)
            except ValueError as error:
                raise UserError(f"{override.input_line}: {error}") from error
        else:
            fixed.append(override.input_line)
    return space, fixed


def overrides(point: Mapping[str, Any]) -> list[str]:
    """Return the overrides that set the values of a point.

    Numbers are rounded to six digits, so that the name of a run shows its exact values.
    """
    texts = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in point.items()}
    return [f"{key}={text}" for key, text in texts.items()]


def values(distribution: BaseDistribution) -> list[Any] | None:
    """Return all values that may be chosen; None if their number is infinite."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + i * distribution.step for i in range(count + 1)]
    return None


def corners(space: Space) -> list[dict[str, Any]]:
    """Return points in which each value of a choice occurs, and both ends of each range."""
    ends: dict[str, list[Any]] = {}
    for key, distribution in space.items():
        if isinstance(distribution, FloatDistribution):
            # Slightly below the end, which may itself be out of range, such as a beta of 1.
            width = distribution.high - distribution.low
            ends[key] = [distribution.low, distribution.high - 1e-6 * width]
        else:
            options = values(distribution) or []
            is_choice = isinstance(distribution, CategoricalDistribution)
            ends[key] = options if is_choice else [options[0], options[-1]]
    count = max(2, *map(len, ends.values()))
    return [{key: own[min(i, len(own) - 1)] for key, own in ends.items()} for i in range(count)]


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        start, end, log = sweep.start, sweep.end, "log" in sweep.tags
        assert start is not None
        assert end is not None
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=log)
        return FloatDistribution(start, end, log=log)
    texts = list(override.sweep_string_iterator())
    if not texts:
        raise ValueError("has no values")
    if isinstance(sweep, RangeSweep) and not sweep.shuffle and sweep.step > 0:
        # The end of Hydra's ranges is not one of their values.
        start, step = sweep.start, sweep.step
        assert start is not None
        if isinstance(start, int) and isinstance(step, int):
            return IntDistribution(start, int(texts[-1]), step=step)
        return FloatDistribution(start, float(texts[-1]), step=step)
    return CategoricalDistribution(list(dict.fromkeys(texts)))
