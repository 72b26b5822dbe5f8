"""Statistics of a few values per group: intervals with their coverage, and tests of differences.

Values may be infinite: a run that diverged is worse than every other one. In the tests lower values
are better.
"""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import stats

LEVEL = 0.05
"""The probability that a test names a difference where there is none."""

COVERAGE = 0.95
"""The probability with which an interval holds the true median, where so few values allow it."""

MIN_VALUES = 3
"""The number of values from which on a group gets an interval and a rank."""

MIN_PAIRS = 6
"""The number of pairs from which on a paired test can reach LEVEL: the differences of n pairs have
the same sign by chance with probability 2 / 2^n."""

MAX_CHOICES = 20_000
"""The most ways to split values into two groups that are all looked at. Larger groups have so many
ranks that the finer order of `p_value` makes no difference."""
MOST_PAIRS = 16
"""The most pairs for which all 2^n signs of their differences are looked at."""
MOST_EXACT = 100
"""The most values of two groups together for which the distribution of rank sums is computed."""


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return the median of values, their interquartile range, and the interval of the median with
    its coverage.

    The interval is NaN for fewer than MIN_VALUES values. Without any value everything is NaN.
    """
    if not values:
        return dict.fromkeys(("median", "IQR", "low", "high", "coverage"), np.nan)
    array = np.sort(np.asarray(values, dtype=np.float64))
    enough = len(array) >= MIN_VALUES
    low, high, coverage = median_interval(array) if enough else (np.nan, np.nan, np.nan)
    first, third = quantile(array, 0.25), quantile(array, 0.75)
    # Nobody knows how far two infinite values are from each other.
    iqr = np.nan if np.isinf(first) and first == third else third - first
    median = quantile(array, 0.5)
    return {"median": median, "IQR": iqr, "low": low, "high": high, "coverage": coverage}


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return two of the values (n,) that bound the true median, and the exact coverage.

    The coverage is the probability that the median lies between them, whatever the distribution:
    that of heads and tails (David and Nagaraja, doi:10.1002/0471722162, section 7.1). These are the
    narrowest bounds that reach COVERAGE. If none do, they are the lowest and the highest value.
    """
    ordered, count = np.sort(values), len(values)
    place = max(int(stats.binom.ppf((1 - COVERAGE) / 2, count, 0.5)), 1)
    coverage = 1 - 2 * stats.binom.cdf(place - 1, count, 0.5)
    return float(ordered[place - 1]), float(ordered[-place]), float(coverage)


def p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Return the p value of a two-sided test that two groups have the same distribution.

    It is exact up to MOST_EXACT values, and larger groups take the normal distribution. So do
    groups with ties that can be split in more than MAX_CHOICES ways.

    The test orders all splits of the values into two groups by the rank sum of Mann and Whitney
    (doi:10.1214/aoms/1177730491), as theirs does, and splits of equal rank sums by the sum of their
    normal scores. So it is never above theirs, and has at least its power. At five values in each
    group it uses 4.0 % of the 5 %, theirs 3.2 %.
    """
    values, count = np.concatenate([first, second]), len(first)
    if math.comb(len(values), count) > MAX_CHOICES:
        has_ties = len(np.unique(values)) < len(values)
        method = "asymptotic" if has_ties or len(values) > MOST_EXACT else "exact"
        return float(stats.mannwhitneyu(first, second, method=method).pvalue)
    ranks = stats.rankdata(values)
    # The scores are so small that they never change the order of different rank sums.
    scores = ranks + 1e-3 * stats.norm.ppf(ranks / (len(values) + 1))
    distances = np.abs(scores[_choices(len(values), count)].sum(1) - count * scores.mean())
    return float((distances >= distances[0] - 1e-9).mean())


def least_p_value(first: int, second: int) -> float:
    """Return the least value that `p_value` can have for groups of so many values."""
    return 2 / math.comb(first + second, first)


def paired_p_value(differences: np.ndarray) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test (doi:10.2307/3001968).

    Differences of zero are left out. It is exact up to MOST_PAIRS others, also with ties.
    """
    unequal = differences[differences != 0]
    if not len(unequal):
        return 1.0
    if len(unequal) > MOST_PAIRS:
        return float(stats.wilcoxon(unequal).pvalue)
    ranks = stats.rankdata(np.abs(unequal))
    signs = 1 - 2 * ((np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks))) & 1)
    observed = abs(np.sign(unequal) @ ranks)
    return float((np.abs(signs @ ranks) >= observed - 1e-9).mean())


def signed_rank(differences: np.ndarray) -> float:
    """Return the sum of the ranks of differences, each with its sign: Wilcoxon's statistic.

    It is below zero if the differences are mostly negative, which is what the test's p value is of.
    """
    known = differences[~np.isnan(differences)]
    return float((np.sign(known) * stats.rankdata(np.abs(known))).sum())


def improvement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a value of the first group is lower than one of the second.

    A tie counts half. This is the probability of improvement of arXiv:2108.13264.
    """
    wins = np.less.outer(first, second) + 0.5 * np.equal.outer(first, second)
    return float(wins.mean())


def told_apart(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return a boolean matrix (k, k): entry (i, j) says that group i is better than group j.

    If all k groups have the same distribution, the matrix has any entry in at most LEVEL of all
    cases. Two groups are told apart

    - if `p_value` of these two is at most LEVEL, and,
    - among three groups or more, if their means differ by more than the largest difference among k
      means does by chance (Tukey and Kramer, doi:10.2307/2529273). The spread of a mean is that of
      all groups together, or that of the two groups where it is larger.

    The first condition assumes nothing about the noise. The second one corrects for the number of
    comparisons. Ranks alone cannot do that: five values against five are split by chance in 1 of
    126 cases, and 20 groups have 190 pairs. It compares the logarithms of values that are all
    positive, as the noise of such metrics multiplies.

    Args:
        groups: two groups or more of values (n,), with n at least 2.
    """
    better = _far_apart(groups) if len(groups) > 2 else ~np.eye(2, dtype=bool)
    for row, column in np.argwhere(better):
        first, second = groups[row], groups[column]
        if p_value(first, second) > LEVEL or improvement(first, second) <= 0.5:
            better[row, column] = False
    return better


def _far_apart(groups: Sequence[np.ndarray]) -> np.ndarray:
    """Return the second condition of `told_apart`: entry (i, j) says that group i is lower by more
    than chance allows among so many groups."""
    scaled = _scaled(groups)
    counts = np.array([len(values) for values in groups])
    means = np.array([values.mean() for values in scaled])
    variances = np.array([values.var(ddof=1) for values in scaled])
    spare = int(counts.sum()) - len(groups)
    pooled = float((variances * (counts - 1)).sum()) / spare
    own = (variances[:, None] + variances) / 2
    errors = np.sqrt(np.maximum(own, pooled) * (1 / counts[:, None] + 1 / counts))
    far: np.ndarray = means - means[:, None] > _largest_by_chance(len(groups), spare) * errors
    return far


def _scaled(groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the values of groups as finite numbers on a scale where their noise is about equal.

    An infinite value is worse than the most extreme finite one by three standard deviations of the
    noise within groups.
    """
    if all((group > 0).all() for group in groups):
        groups = [np.log(group) for group in groups]
    elif all((group < 0).all() for group in groups):
        # Values of which higher ones are better come with the other sign.
        groups = [-np.log(-group) for group in groups]
    finite_parts = [group[np.isfinite(group)] for group in groups]
    finite = np.concatenate(finite_parts)
    if len(finite) == 0:
        return [np.sign(group) for group in groups]
    variances = [part.var(ddof=1) for part in finite_parts if len(part) > 1]
    gap = 3 * math.sqrt(np.mean(variances)) if any(variances) else 1.0
    return [np.clip(group, finite.min() - gap, finite.max() + gap) for group in groups]


@lru_cache(maxsize=64)
def _choices(total: int, count: int) -> np.ndarray:
    """Return the numbers of every choice of `count` out of `total` values, the first ones first."""
    return np.array(list(itertools.combinations(range(total), count)))


@lru_cache(maxsize=64)
def _largest_by_chance(groups: int, spare: int) -> float:
    """Return the difference of two means, in standard errors, that the largest one among so many
    groups exceeds with probability LEVEL.

    Args:
        spare: the degrees of freedom of the standard error.
    """
    return float(stats.studentized_range.ppf(1 - LEVEL, groups, spare)) / math.sqrt(2)


def quantile(ordered: np.ndarray, part: float) -> float:
    """Return a quantile of sorted values, some of which may be infinite.

    It is interpolated linearly between the two nearest values.
    """
    place = part * (len(ordered) - 1)
    below, above = ordered[int(np.floor(place))], ordered[int(np.ceil(place))]
    if below == above or np.isinf(below):
        return float(below)
    return float(below + (place % 1) * (above - below))
