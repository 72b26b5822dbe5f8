"""What repetitions of a point say together, and which points they tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gan.compare.frame import TOLD, Table
from gan.errors import UserError, nearest
from gan.metrics.catalogue import sign
from gan.run.result import FINISHED

FEW = 3
"""Repetitions below which nothing is said about a median."""

RESAMPLES = 2000
COVERAGE = 0.95


@dataclass
class Ranking:
    """Groups of runs that differ in `over` alone, best first."""

    frame: pd.DataFrame
    """Columns: rank, those of the configuration, n, missing, median, IQR, low and high."""
    metric: str
    over: list[str]
    members: list[list[int]]
    """For each row, the runs by their numbers in the table."""

    @property
    def few(self) -> int:
        """How many groups are too small to be ranked."""
        return int((self.frame["rank"] == "").sum())


def rank(table: Table, over: str, metric: str) -> Ranking:
    """Group runs that differ in nothing but the columns `over` (such as "seed"), and rank them.

    `low` and `high` bound the median with 95 % confidence, by the percentile bootstrap with a
    fixed seed (Efron 1979, doi:10.1214/aos/1176344552). A group's rank is one more than the
    number of groups whose whole interval is better than its own; "=" marks one whose interval
    meets another's, so that the repetitions cannot tell the two apart. A run that diverged counts
    as the worst there is; those that failed, are not finished or lack the metric are `missing`.

    Raises:
        UserError: `over` or `metric` is no column that can be used so.
    """
    names = [name.strip() for name in over.split(",")]
    for name in names:
        if name not in table.keys:
            if "." in name or name in {key for run in table.runs for key in run.config}:
                raise UserError(f"group={over}: all runs have the same {name}")
            hint = nearest(name, table.keys) or f"; runs differ in {', '.join(table.keys)}"
            raise UserError(f"group={over}: runs do not differ in {name}{hint}")
    values = _values(table, metric)
    keys = [name for name in table.keys if name not in names and name not in TOLD]
    if keys:
        grouped = table.frame.groupby(keys, dropna=False, sort=False)
        groups = [(key if isinstance(key, tuple) else (key,), part) for key, part in grouped]
    else:
        groups = [((), table.frame)]
    rows, members = [], []
    for key, part in groups:
        given = values.loc[part.index].dropna()
        rows.append(
            dict(zip(keys, key, strict=True))
            | {"n": len(given), "missing": len(part) - len(given)}
            | summary(given.tolist())
        )
        members.append(part.index.tolist())
    frame = pd.DataFrame(rows)
    # Infinite values sort to the right end by themselves.
    order = (frame["median"] * sign(metric)).argsort(kind="stable").tolist()
    order = sorted(order, key=lambda place: bool(np.isnan(frame["median"].iloc[place])))
    frame = frame.iloc[order].reset_index(drop=True)
    frame.insert(0, "rank", ranks(frame["low"], frame["high"], sign(metric)))
    return Ranking(frame, metric, names, [members[place] for place in order])


def summary(values: Sequence[float]) -> dict[str, float]:
    """The median, interquartile range and interval of the median of values, some infinite.

    The interval is NaN below FEW values, all of it without any.
    """
    if not values:
        return dict.fromkeys(("median", "IQR", "low", "high"), np.nan)
    array = np.sort(np.asarray(values, dtype=np.float64))
    low, high = interval(array) if len(array) >= FEW else (np.nan, np.nan)
    first, third = _quantile(array, 0.25), _quantile(array, 0.75)
    spread = 0.0 if first == third else third - first
    return {"median": _quantile(array, 0.5), "IQR": spread, "low": low, "high": high}


def interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Bounds of the median of values (n,), which may be infinite: the same at every call."""
    generator = np.random.default_rng(0)
    drawn = values[generator.integers(len(values), size=(resamples, len(values)))]
    drawn.sort(axis=1)
    middle = len(values) // 2
    medians = drawn[:, middle]
    if len(values) % 2 == 0:
        medians = (medians + drawn[:, middle - 1]) / 2
    medians.sort()
    tail = (1 - COVERAGE) / 2
    # Observed values: between an infinite and a finite one there is nothing to interpolate.
    return float(medians[int(tail * resamples)]), float(medians[-1 - int(tail * resamples)])


def ranks(low: Sequence[float], high: Sequence[float], direction: int) -> list[str]:
    """Ranks of intervals, best first: "1", "2=" where tied, "" for NaN.

    Args:
        direction: 1 where lower values are better, -1 where higher ones are.
    """
    ends = np.stack([np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)])
    best, worst = ends if direction > 0 else -ends[::-1]
    found = []
    places = [int((worst < value).sum()) + 1 for value in best]
    for row, place in enumerate(places):
        meets = (best <= worst[row]) & (best[row] <= worst)
        tied = any(meets[other] for other in range(len(places)) if other != row)
        found.append("" if np.isnan(best[row]) else f"{place}{'=' if tied else ''}")
    return found


def _values(table: Table, metric: str) -> "pd.Series[Any]":
    values = table.column(metric)
    if not pd.api.types.is_numeric_dtype(values) or metric in table.keys:
        numbers = ", ".join(table.metrics)
        raise UserError(f"{metric}: cannot be ranked by, it is no measure; there are {numbers}")
    worst = sign(metric) * np.inf
    # Its last value before it diverged says nothing.
    values = values.astype(float).mask(table.frame["status"] == "diverged", worst)
    return values.where(table.frame["status"].isin(FINISHED))


def _quantile(ordered: np.ndarray, part: float) -> float:
    """Linear between the two nearest values, of which both may be infinite."""
    place = part * (len(ordered) - 1)
    below, above = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    if below == above or np.isinf(below):
        return float(below)
    return float(below + (place % 1) * (above - below))
