"""Points of a random search, drawn from Hydra's own syntax for sweeps."""

import math
import random
from collections.abc import Callable, Mapping, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from gan.errors import UserError
from gan.seeds import stream
from gan.sweep.plan import Point

Draw = Callable[[random.Random], str]
"""A function that draws a value, as it stands in an override."""


def overrides_of_space(
    loader: ConfigLoader, arguments: Sequence[str], params: Mapping[str, object]
) -> dict[str, Override]:
    """Return the overrides of a search by their keys, of which some have several values.

    A key that is given twice counts where it was given last.

    Args:
        arguments: the overrides of the command line. They replace those of `params`.
        params: further keys of the space, such as `{"optimizer.lr": "interval(1e-4, 1e-3)"}`.

    Raises:
        UserError: nothing is left to choose.
    """
    given: dict[str, Override] = {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    for override in OverridesParser.create(config_loader=loader).parse_overrides(texts):
        key = override.get_key_element()
        given.pop(key, None)
        given[key] = override
    if not any(override.is_sweep_override() for override in given.values()):
        raise UserError(
            "nothing to search over: give a key several values or an interval, "
            "as in 'optimizer.lr=tag(log, interval(1e-5, 1e-3))'"
        )
    return given


def random_points(
    loader: ConfigLoader,
    arguments: Sequence[str],
    params: Mapping[str, object],
    *,
    count: int,
    seed: int,
) -> list[Point]:
    """Return points whose swept values are drawn independently, the first ones the same whatever
    their number.

    Args:
        arguments, params: see `overrides_of_space`.
        count: the number of points.
        seed: decides which points these are.

    Raises:
        UserError: nothing is left to choose, or an interval is empty.
    """
    given = overrides_of_space(loader, arguments, params)
    draws = {key: _draw(one) if one.is_sweep_override() else None for key, one in given.items()}
    points: list[Point] = []
    for number in range(count):
        # A key more or less leaves the values of the others alone.
        streams = {key: random.Random(stream(seed, "search", number, key)) for key in draws}
        points.append(
            [
                f"{key}={draw(streams[key])}" if draw else str(given[key].input_line)
                for key, draw in draws.items()
            ]
        )
    return points


def _draw(override: Override) -> Draw:
    """Return the function that draws a value of a swept key.

    Raises:
        UserError: there is no value.
    """
    sweep = override.value()
    if not isinstance(sweep, IntervalSweep):
        texts = list(dict.fromkeys(override.sweep_string_iterator()))
        if not texts:
            raise UserError(f"{override.input_line}: has no values")
        return lambda numbers: texts[int(numbers.random() * len(texts))]
    low, high, is_log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if low > high:
        raise UserError(f"{override.input_line}: must not end below its start")
    if is_log and low <= 0:
        raise UserError(f"{override.input_line}: must start above 0, for its logarithm")
    is_whole = isinstance(low, int) and isinstance(high, int)
    # Each whole number stands for the numbers that are rounded to it.
    first, last = (low - 0.5, high + 0.5) if is_whole else (low, high)
    if is_log:
        first, last = math.log(first), math.log(last)

    def draw(numbers: random.Random) -> str:
        place = first + (last - first) * numbers.random()
        value = math.exp(place) if is_log else place
        # Six digits, so that the name of a run shows its exact values.
        return str(min(max(round(value), low), high)) if is_whole else f"{value:.6g}"

    return draw
