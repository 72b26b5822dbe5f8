"""What a search may choose from, read from Hydra's own syntax for sweeps."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from gan.errors import UserError

Space = dict[str, BaseDistribution]
"""By (dotted) key; the values of a choice are texts, as they stand in an override."""


def read_space(
    loader: ConfigLoader, arguments: Sequence[str], params: Mapping[str, str]
) -> tuple[Space, list[str]]:
    """The space, and the overrides that all points share.

    Args:
        arguments: the command line's overrides; they come before `params`' values of a key.
        params: more of the space, by key, such as `{"optimizer.lr": "interval(1e-4, 1e-3)"}`.

    Raises:
        UserError: nothing is left to choose, or an interval is empty.
    """
    parser = OverridesParser.create(config_loader=loader)
    space: Space = {}
    fixed: dict[str, str] = {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    for override in parser.parse_overrides(texts):
        key = override.get_key_element()
        space.pop(key, None)
        fixed.pop(key, None)
        assert override.input_line is not None
        if override.is_sweep_override():
            try:
                space[key] = _distribution(override)
            except ValueError as error:
                raise UserError(f"{override.input_line}: {error}") from error
        else:
            fixed[key] = override.input_line
    if not space:
        raise UserError(
            "nothing to search over: give a key several values or an interval, "
            "as in 'optimizer.lr=tag(log, interval(1e-5, 1e-3))'"
        )
    return space, list(fixed.values())


def overrides(point: Mapping[str, Any]) -> list[str]:
    """The overrides that set the values of a point, by key.

    Six digits of a number are all that a run is given, so that they can be read in its name.
    """
    texts = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in point.items()}
    return [f"{key}={text}" for key, text in texts.items()]


def values(distribution: BaseDistribution) -> list[Any] | None:
    """All that may be chosen; None if that is without end."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + i * distribution.step for i in range(count + 1)]
    return None


def corners(space: Space) -> list[dict[str, Any]]:
    """The points with the first and with (about) the last value of every key."""
    ends = {}
    for key, distribution in space.items():
        if isinstance(distribution, FloatDistribution):
            # An end that is out of reach, such as a beta of 1, is seldom meant.
            width = distribution.high - distribution.low
            ends[key] = (distribution.low, distribution.high - 1e-6 * width)
        else:
            known = values(distribution) or []
            ends[key] = (known[0], known[-1])
    return [{key: pair[end] for key, pair in ends.items()} for end in (0, 1)]


def _distribution(override: Override) -> BaseDistribution:
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        start, end, log = sweep.start, sweep.end, "log" in sweep.tags
        assert start is not None
        assert end is not None
        if isinstance(start, int) and isinstance(end, int):
            return IntDistribution(start, end, log=log)
        return FloatDistribution(start, end, log=log)
    known = list(override.sweep_string_iterator())
    if not known:
        raise ValueError("has no values")
    if isinstance(sweep, RangeSweep) and not sweep.shuffle and sweep.step > 0:
        # Hydra's ranges leave out their end.
        start, step = sweep.start, sweep.step
        assert start is not None
        if isinstance(start, int) and isinstance(step, int):
            return IntDistribution(start, int(known[-1]), step=step)
        return FloatDistribution(start, float(known[-1]), step=step)
    return CategoricalDistribution(list(dict.fromkeys(known)))
