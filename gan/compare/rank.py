"""Summarize runs that repeat a point with other seeds, and rank the points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gan.compare.frame import Table
from gan.errors import UserError, nearest
from gan.metrics.catalogue import sign
from gan.run.result import FINISHED

MIN_VALUES = 3
"""The number of values from which on a median gets an interval and a rank."""

RESAMPLES = 2000
"""The number of bootstrap samples behind an interval."""

COVERAGE = 0.95
"""The probability with which an interval holds the true median."""

STATISTICS = ("rank", "n", "missing", "median", "IQR", "low", "high")
"""The columns of a ranking that do not come from the configuration."""


@dataclass
class Ranking:
    """Groups of runs that differ only in the columns `over`, best group first."""

    frame: pd.DataFrame
    """One row for each group: its rank, its configuration and the other STATISTICS."""
    metric: str
    over: list[str]
    members: list[list[int]]
    """For each row, the numbers of its runs in the table."""

    @property
    def unranked(self) -> int:
        """The number of groups that are too small to be ranked."""
        return int((self.frame["rank"] == "").sum())


def rank(table: Table, over: str, metric: str) -> Ranking:
    """Group runs that differ only in the columns `over`, such as "seed", and rank the groups.

    `low` and `high` bound the median of a group with 95 % confidence (see `interval`). A group's
    rank is 1 plus the number of groups whose whole interval is better than its own. "=" after a
    rank means that the group's interval overlaps with another one, so the runs cannot tell
    which of the two is better. A run that diverged counts as the worst possible value. A run that
    failed, is not finished or lacks the metric is `missing`.

    Args:
        over: Names of columns, separated by commas.

    Raises:
        UserError: Runs do not differ in `over`, or `metric` does not measure runs.
    """
    names = [name.strip() for name in over.split(",")]
    _check_over(table, over, names)
    values = _values_to_rank(table, metric)
    keys = [name for name in table.defining_keys if name not in names]
    rows, members = [], []
    for group, part in table.groups(keys):
        given = values.loc[part.index].dropna()
        counts = {"n": len(given), "missing": len(part) - len(given)}
        rows.append(dict(zip(keys, group, strict=True)) | counts | summary(given.tolist()))
        members.append(part.index.tolist())
    frame = pd.DataFrame(rows)
    # This sorts infinite medians correctly and those that are NaN to the end.
    order = (frame["median"] * sign(metric)).sort_values(kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    frame.insert(0, "rank", ranks(frame["low"], frame["high"], sign(metric)))
    return Ranking(frame, metric, names, [members[row] for row in order])


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median of values, their interquartile range and the interval of the median.

    Values may be infinite. The interval is NaN for fewer than MIN_VALUES values. Without any value
    everything is NaN.
    """
    if not values:
        return dict.fromkeys(("median", "IQR", "low", "high"), np.nan)
    array = np.sort(np.asarray(values, dtype=np.float64))
    low, high = interval(array) if len(array) >= MIN_VALUES else (np.nan, np.nan)
    first, third = _quantile(array, 0.25), _quantile(array, 0.75)
    iqr = 0.0 if first == third else third - first
    return {"median": _quantile(array, 0.5), "IQR": iqr, "low": low, "high": high}


def interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return bounds of the median of values (n,), which may be infinite.

    This is the percentile bootstrap (Efron 1979, doi:10.1214/aos/1176344552). Its seed is fixed, so
    every call returns the same bounds.
    """
    generator = np.random.default_rng(0)
    drawn = values[generator.integers(len(values), size=(resamples, len(values)))]
    drawn.sort(axis=1)
    middle = len(values) // 2
    medians = drawn[:, middle]
    if len(values) % 2 == 0:
        medians = (medians + drawn[:, middle - 1]) / 2
    medians.sort()
    # Each bound is one of the medians: one cannot interpolate between a finite and an infinite
    # one, which is why scipy.stats.bootstrap is not used.
    beyond = int((1 - COVERAGE) / 2 * resamples)
    return float(medians[beyond]), float(medians[-1 - beyond])


def ranks(low: Sequence[float], high: Sequence[float], direction: int) -> list[str]:
    """Return the ranks of intervals: "1" for the best, "2=" for one that overlaps with another, ""
    for NaN.

    Args:
        direction: 1 if lower values are better, -1 if higher ones are.
    """
    bounds = np.stack([np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)])
    best, worst = bounds if direction > 0 else -bounds[::-1]
    labels = []
    for row in range(len(best)):
        overlaps = (best <= worst[row]) & (best[row] <= worst)
        overlaps[row] = False
        number = int((worst < best[row]).sum()) + 1
        labels.append("" if np.isnan(best[row]) else f"{number}{'=' if overlaps.any() else ''}")
    return labels


def _check_over(table: Table, over: str, names: Sequence[str]) -> None:
    for name in names:
        if name in table.keys:
            continue
        if "." in name or any(name in run.config for run in table.runs):
            raise UserError(f"group={over}: all runs have the same {name}")
        hint = nearest(name, table.keys) or f"; runs differ in {', '.join(table.keys)}"
        raise UserError(f"group={over}: runs do not differ in {name}{hint}")


def _values_to_rank(table: Table, metric: str) -> "pd.Series[Any]":
    """Return the values of a metric, with NaN for runs that are not finished."""
    if metric in table.keys or not pd.api.types.is_numeric_dtype(table.column(metric)):
        numbers = ", ".join(table.metrics)
        raise UserError(f"{metric}: cannot be ranked by, it is no measure; there are {numbers}")
    return table.scores(metric).astype(float).where(table.frame["status"].isin(FINISHED))


def _quantile(ordered: np.ndarray, part: float) -> float:
    """Return a quantile of sorted values, some of which may be infinite.

    It is interpolated linearly between the two nearest values.
    """
    place = part * (len(ordered) - 1)
    below, above = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    if below == above or np.isinf(below):
        return float(below)
    return float(below + (place % 1) * (above - below))
