"""Compare two groups of runs, such as two recipes, over the seeds that they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan.compare.frame import Table, elements_of
from gan.compare.inference import (
    LEVEL,
    MIN_PAIRS,
    MIN_VALUES,
    improvement,
    least_p_value,
    median_interval,
    p_value,
    paired_p_value,
    quantile,
    signed_rank,
)
from gan.compare.rank import values_to_rank
from gan.errors import UserError
from gan.metrics.catalogue import sign


@dataclass
class Versus:
    """The outcome of a comparison of two groups of runs."""

    metric: str
    names: tuple[str, str]
    values: tuple[np.ndarray, np.ndarray]
    """The values of the finished runs of both groups. That of a diverged run is infinite."""
    missing: int
    """The number of runs that failed, were pruned, have not finished or lack the metric."""
    pair_keys: list[str]
    """The columns in which the runs of a pair agree, such as the seed."""
    differences: np.ndarray
    """For each pair the value of the first group less that of the second one."""

    @property
    def is_paired(self) -> bool:
        """Return whether there are enough pairs for a paired test."""
        return len(self.differences) >= MIN_PAIRS

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome in numbers."""
        first, second = self.values
        differences = self.differences
        low = high = coverage = np.nan
        if len(differences) >= MIN_VALUES:
            low, high, coverage = median_interval(differences)
        better = sign(self.metric)
        return {
            "metric": self.metric,
            "first": self.names[0],
            "second": self.names[1],
            "n_first": len(first),
            "n_second": len(second),
            "missing": self.missing,
            "median_first": _median(first),
            "median_second": _median(second),
            "pairs": len(differences),
            "median_difference": _median(differences),
            "low": low,
            "high": high,
            "coverage": coverage,
            "probability_of_improvement": improvement(better * first, better * second),
            "test": "Wilcoxon" if self.is_paired else "Mann-Whitney",
            "p_value": paired_p_value(differences) if self.is_paired else p_value(first, second),
        }

    def sentences(self) -> list[str]:
        """Return the outcome in words, one line for each thought."""
        facts = self.as_dict()
        first, second = self.names
        lines = [
            f"{name}: {len(values)} run{'s' * (len(values) != 1)}, "
            f"median {self.metric} {_median(values):.4g}"
            for name, values in zip(self.names, self.values, strict=True)
        ]
        if self.missing:
            lines.append(f"{self.missing} more failed, were pruned, go on or lack the metric")
        count = len(self.differences)
        if count:
            line = f"{count} pairs with the same {' and '.join(self.pair_keys)}"
            line += f": median difference {facts['median_difference']:.4g}"
            if count >= MIN_VALUES:
                line += f", from {facts['low']:.4g} to {facts['high']:.4g}"
                line += f" with a probability of {facts['coverage']:.1%}"
            lines.append(line)
        elif self.pair_keys:
            lines.append("no pairs: the two share no value of the keys that vary, such as the seed")
        else:
            lines.append("no pairs: the runs of a group differ in nothing, such as the seed")
        share = facts["probability_of_improvement"]
        lines.append(
            f"a run of {first} is better than a run of {second} in {share:.0%} of all combinations"
        )
        test = "Wilcoxon's signed-rank test of the pairs"
        if not self.is_paired:
            test = f"Mann-Whitney's exact test; a paired one needs {MIN_PAIRS} pairs"
        # The winner is that of the test whose p value is shown.
        paired = sign(self.metric) * signed_rank(self.differences)
        winner = first if (paired < 0 if self.is_paired else share > 0.5) else second
        verdict = f"{winner} is better"
        if not self.is_paired and least_p_value(*map(len, self.values)) > LEVEL:
            verdict = "so few runs cannot tell any two apart; train at least 4 seeds of each"
        elif facts["p_value"] > LEVEL:
            verdict = "these runs cannot tell the two apart; more seeds may"
        return [*lines, f"p = {facts['p_value']:.3g} ({test}): {verdict}"]


def _median(values: np.ndarray) -> float:
    """Return the median of values, some of which may be infinite; NaN if there are none."""
    return quantile(np.sort(values), 0.5) if len(values) else np.nan


def versus(table: Table, sides: tuple[Sequence[str], Sequence[str]], metric: str) -> Versus:
    """Compare two groups of the runs in a table by a metric.

    Runs of both groups are pairs if they agree in all keys that vary within a group, such as the
    seed. From MIN_PAIRS pairs on the test is Wilcoxon's of the pairs. Fewer pairs can never reach
    LEVEL, so the test is `p_value`, which looks at no pairs. It stays valid: what runs with the
    same seed have in common makes their difference smaller than chance would.

    Args:
        sides: for each group the words that all of its runs match: a directory above them,
            KEY=VALUE, or the VALUE of an override, such as the name of a recipe.

    Raises:
        UserError: A word matches no run, the groups share runs, or one has no finished run.
    """
    table = table.counted(metric)
    scores = values_to_rank(table, metric)
    groups = [_matching(table, words) for words in sides]
    names = (" ".join(sides[0]), " ".join(sides[1]))
    if both := {*groups[0]} & {*groups[1]}:
        raise UserError(f"{names[0]} versus {names[1]}: both hold {table.runs[min(both)].path}")
    given = [scores.loc[rows].dropna() for rows in groups]
    for name, values in zip(names, given, strict=True):
        if values.empty:
            raise UserError(f"{name}: no finished run has {metric}")
    varying = [
        key
        for key in table.defining_keys
        if any(table.frame.loc[rows, key].nunique(dropna=False) > 1 for rows in groups)
    ]
    first, second = (_by_keys(table, values, varying) for values in given)
    shared = [key for key in first if key in second]
    # Two runs that diverged are equally bad.
    differences = [0.0 if first[k] == second[k] else first[k] - second[k] for k in shared]
    return Versus(
        metric,
        names,
        (given[0].to_numpy(), given[1].to_numpy()),
        sum(map(len, groups)) - sum(map(len, given)),
        varying,
        np.array(differences),
    )


def _by_keys(
    table: Table, values: "pd.Series[Any]", keys: Sequence[str]
) -> dict[tuple[str, ...], float]:
    """Return values by the texts that their runs have in some columns."""
    if not keys:
        return {}
    texts = table.frame.loc[values.index, list(keys)].astype(str)
    return dict(zip(texts.itertuples(index=False, name=None), values.tolist(), strict=True))


def _matching(table: Table, words: Sequence[str]) -> list[int]:
    """Return the numbers of the runs that match every word."""
    rows = list(table.frame.index)
    for word in words:
        rows = [row for row in rows if row in _rows_of(table, word)]
    if not rows:
        raise UserError(f"{' '.join(words)}: matches none of {len(table.frame)} runs")
    return rows


def _rows_of(table: Table, word: str) -> set[int]:
    """Return the numbers of the runs that a word names: a directory, KEY=VALUE, or a VALUE."""
    rows = list(table.frame.index)
    if Path(word).is_dir():
        paths = {row: Path(table.runs[row].path).resolve() for row in rows}
        return {row for row in rows if paths[row].is_relative_to(Path(word).resolve())}
    overrides = {row: table.runs[row].overrides for row in rows}
    # Such as recipe=wgan_gp, which is no key of the configuration; its value alone is a name too.
    found = {row for row in rows if any(f"={o}".endswith(f"={word}") for o in overrides[row])}
    key, equals, value = word.rpartition("=")
    try:
        columns = [table.column(name) for name in ([key] if equals else table.keys)]
    except UserError:
        if not any(o.startswith(f"{key}=") for given in overrides.values() for o in given):
            raise
        columns = []
    return found | {row for row in rows if any(_is_text_of(value, c[row]) for c in columns)}


def _is_text_of(text: str, value: Any) -> bool:
    """Return whether a text is a value as people write it on a command line."""
    if pd.isna(value):
        # A column of numbers has NaN for null.
        return text == "null"
    try:
        return float(text) == float(value)
    except (TypeError, ValueError):
        return text.lower() == str(value).lower() or text in elements_of(value)
