"""Simulate comparisons whose truth is known: python -m gan.compare.simulation

Prints how often runs that are all alike are told apart, and how often groups that differ by two
standard deviations are, beside the test of Mann and Whitney without any correction. Takes a minute.
"""

from collections.abc import Callable

import numpy as np
from scipy import stats

from gan.compare.inference import LEVEL, MIN_PAIRS, p_value, paired_p_value, told_apart

GROUPS = 20
"""The number of groups in a ranking whose runs are all alike."""

SHIFT = 2.0
"""The difference of two groups, in standard deviations of normal noise."""

SIZES = (3, 4, 5, 10)
"""The numbers of runs in a group."""

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
"""A function that draws noise of a shape."""

NOISES: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "log-normal": lambda draw, shape: np.exp(draw.normal(size=shape)),
    "heavy tails (t, 2 degrees)": lambda draw, shape: draw.standard_t(2, size=shape),
    "two modes": lambda draw, shape: draw.normal(4.0 * draw.integers(2, size=shape), 0.5),
    "1 run of 5 diverges": lambda draw, shape: np.where(
        draw.random(shape) < 0.2, np.inf, draw.normal(size=shape)
    ),
}
"""Kinds of noise by their names."""


def false_alarms(noise: Draw, size: int, repeats: int, groups: int = GROUPS) -> float:
    """Return how often any of some groups of equal runs is told from any other one."""
    draw = np.random.default_rng(size)
    return float(
        np.mean([told_apart([*noise(draw, (groups, size))]).any() for _ in range(repeats)])
    )


def power(noise: Draw, size: int, repeats: int, shift: float = SHIFT) -> tuple[float, float]:
    """Return how often two groups that differ by a shift are told apart, and how often the exact
    test of Mann and Whitney does so. Log-normal noise is multiplied by e to the shift."""
    draw, found = np.random.default_rng(size), []
    for _ in range(repeats):
        first, second = noise(draw, (2, size))
        second = second * np.exp(shift) if noise is NOISES["log-normal"] else second + shift
        ties = np.isinf(first).any() or np.isinf(second).any()
        theirs = stats.mannwhitneyu(first, second, method="auto" if ties else "exact").pvalue
        found.append((told_apart([first, second]).any(), theirs <= LEVEL))
    ours, theirs = np.mean(found, axis=0)
    return float(ours), float(theirs)


def power_of_pairs(size: int, shared: float, repeats: int, shift: float = SHIFT) -> float:
    """Return how often the comparison of two groups by name finds a shift of normal noise.

    Args:
        shared: the part of the noise's variance that runs with the same seed have in common.
    """
    draw, found = np.random.default_rng(size), 0
    for _ in range(repeats):
        common = draw.normal(size=size) * shared**0.5
        first, second = common + draw.normal(size=(2, size)) * (1 - shared) ** 0.5
        second = second + shift
        pairs = size >= MIN_PAIRS
        found += (paired_p_value(first - second) if pairs else p_value(first, second)) <= LEVEL
    return found / repeats


def main(repeats: int = 2000) -> None:
    """Print the table in Markdown."""
    print("| noise | runs | false alarms, 20 groups | power, 2 groups | Mann-Whitney |")
    print("| --- | --- | --- | --- | --- |")
    for name, noise in NOISES.items():
        for size in SIZES:
            alarms = false_alarms(noise, size, repeats)
            ours, theirs = power(noise, size, repeats)
            print(f"| {name} | {size} | {alarms:.1%} | {ours:.1%} | {theirs:.1%} |")
    print("\n| seeds | nothing in common | half in common | 0.9 in common |")
    print("| --- | --- | --- | --- |")
    for size in SIZES:
        shares = (power_of_pairs(size, shared, repeats) for shared in (0.0, 0.5, 0.9))
        print(f"| {size} | {' | '.join(f'{share:.1%}' for share in shares)} |")


if __name__ == "__main__":
    main()
