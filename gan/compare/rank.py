"""Summarize runs that repeat a point with other seeds, and rank the points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gan.compare.frame import Table
from gan.compare.inference import LEVEL, MIN_VALUES, least_p_value, summary, told_apart
from gan.compare.query import ordered, ranking_metric
from gan.errors import UserError, nearest
from gan.metrics.catalogue import sign
from gan.run.result import WELL_ENDED, Status


@dataclass
class Ranking:
    """Groups of runs that differ only in the columns `over`, best group first."""

    frame: pd.DataFrame
    """One row for each group: its rank, its configuration and the other STATISTICS."""
    metric: str
    over: list[str]
    members: list[list[int]]
    """For each row, the numbers of its runs in the table."""

    def readable(self) -> pd.DataFrame:
        """Return the rows as people read them: the interval is a text with its coverage."""
        frame = self.frame.drop(columns=["low", "high", "coverage"])
        bounds = self.frame[["low", "high", "coverage"]].itertuples(index=False)
        texts = [
            "" if pd.isna(low) else f"{low:.4g} to {high:.4g} ({100 * coverage:.3g}%)"
            for low, high, coverage in bounds
        ]
        # It matters more than the IQR, and a narrow terminal has no room for the last column.
        frame.insert(list(frame).index("IQR"), "interval", texts)
        frame = frame.rename(columns={"median": f"median {self.metric}"})
        return frame if frame["missing"].any() else frame.drop(columns="missing")

    @property
    def notes(self) -> list[str]:
        """Lines for people on how to read the ranks."""
        texts, sizes = list(self.frame["rank"]), sorted(self.frame["n"])[-2:]
        lines = ["interval: holds the true median with the probability in brackets"]
        if any(text.endswith("=") for text in texts):
            lines.append(
                f"=: cannot be told from some other group; any false difference among these "
                f"{len(texts) - texts.count('')} groups has a probability of {LEVEL:.0%} at most"
            )
        if len(sizes) == 2 and least_p_value(*sizes) > LEVEL:
            lines.append(
                "no two groups can be told apart with so few runs in each: 4 are the least, and 5 "
                "or more find smaller differences"
            )
        if unranked := texts.count(""):
            lines.append(
                f"{unranked} of {len(texts)} groups not ranked: too few values of "
                f"{' and '.join(self.over)}, fewer than {MIN_VALUES} finished runs"
            )
        return lines


def rank(table: Table, over: str, metric: str) -> Ranking:
    """Group runs that differ only in the columns `over`, such as "seed", and rank the groups.

    A group's rank is 1 plus the number of groups that are better and can be told from it (see
    `told_apart`; a false difference anywhere in the ranking has a probability of 5 % at most). "="
    after a rank means that the runs cannot tell the group from some other one. `low` and `high`
    bound the median of the group alone, with the probability `coverage`. A run that diverged counts
    as the worst possible value. A run that failed, was pruned, is not finished or lacks the metric
    is `missing`.

    Args:
        over: Names of columns or of their keys, separated by commas.

    Raises:
        UserError: Runs do not differ in `over`, or `metric` does not measure runs.
    """
    columns = {key: column for column, key in table.keys.items()}
    names = [columns.get(name.strip(), name.strip()) for name in over.split(",")]
    _check_over(table, over, names)
    table = table.counted(metric)
    values = values_to_rank(table, metric)
    keys = [name for name in table.defining_keys if name not in names]
    rows, members, samples = [], [], []
    for group, part in table.groups(keys):
        given = values.loc[part.index].dropna()
        counts = {"n": len(given), "missing": len(part) - len(given)}
        rows.append(dict(zip(keys, group, strict=True)) | counts | summary(given.tolist()))
        members.append(part.index.tolist())
        samples.append(sign(metric) * given.to_numpy())
    frame = pd.DataFrame(rows)
    frame.insert(0, "rank", ranks(samples))
    # This sorts infinite medians correctly and those that are NaN to the end.
    order = (frame["median"] * sign(metric)).sort_values(kind="stable").index
    frame = frame.loc[order].reset_index(drop=True)
    return Ranking(frame, metric, names, [members[row] for row in order])


def ranks(samples: Sequence[np.ndarray]) -> list[str]:
    """Return the ranks of groups of values, of which lower ones are better: "1" for the best, "2="
    for a group that cannot be told from another one, "" for fewer than MIN_VALUES values."""
    labels = [""] * len(samples)
    large = [number for number, values in enumerate(samples) if len(values) >= MIN_VALUES]
    if len(large) < 2:
        better = np.zeros((len(large), len(large)), dtype=bool)
    else:
        better = told_apart([samples[number] for number in large])
    for place, number in enumerate(large):
        told = better[place] | better[:, place]
        shared = "" if told.sum() == len(large) - 1 else "="
        labels[number] = f"{int(better[:, place].sum()) + 1}{shared}"
    return labels


def values_to_rank(table: Table, metric: str) -> "pd.Series[Any]":
    """Return the values of a metric: the worst possible one for runs that diverged, and NaN for
    runs that have not ended by themselves. The value of a pruned run is that of an early step.

    Raises:
        UserError: The column does not measure runs.
    """
    values = table.column(metric)
    # The values of a key in which runs do not differ are no column of the table.
    is_key = metric in table.keys or values.name not in table.frame
    if is_key or not pd.api.types.is_numeric_dtype(values):
        numbers = ", ".join(table.metrics)
        raise UserError(f"{metric}: cannot be ranked by, it is no measure; there are {numbers}")
    ended = table.frame["status"].isin([*WELL_ENDED, Status.DIVERGED])
    return table.scores(metric).astype(float).where(ended)


def best_first(table: Table, sort: str | None) -> tuple[str, Table]:
    """Return the metric that runs are ranked by, and the table with the best run first.

    Args:
        sort: a column. `-NAME` takes the worst run first. One that describes a run and does not
            measure it leaves the objective.

    Raises:
        UserError: nobody knows which runs are best by it, or it does not measure runs.
    """
    metric = ranking_metric(table, sort)
    values_to_rank(table, metric)
    return metric, ordered(table, f"-{metric}" if sort == f"-{metric}" else metric)


def _check_over(table: Table, over: str, names: Sequence[str]) -> None:
    for name in names:
        if name in table.keys:
            continue
        if "." in name or any(name in run.config for run in table.runs):
            raise UserError(f"group={over}: all runs have the same {name}")
        hint = nearest(name, table.keys) or f"; runs differ in {', '.join(table.keys)}"
        raise UserError(f"group={over}: runs do not differ in {name}{hint}")
