"""The kernel distance: its value, its bias and its standard error."""

import statistics

import pytest
import torch
from torch import Tensor

from gan.metrics.kernel import kernel_distance


def normal(seed: int, count: int = 200, width: int = 4) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def plain(real: Tensor, fake: Tensor) -> float:
    """Return the unbiased estimate over all pairs of two whole sets, one pair at a time."""

    def kernel(x: list[float], y: list[float]) -> float:
        return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)

    def mean_within(points: list[list[float]]) -> float:
        pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if i != j]
        return statistics.fmean(kernel(points[i], points[j]) for i, j in pairs)

    x, y = real.double().tolist(), fake.double().tolist()
    across = statistics.fmean(kernel(a, b) for a in x for b in y)
    return mean_within(x) + mean_within(y) - 2 * across


def test_distance_is_near_the_estimate_over_all_pairs() -> None:
    """Random subsets cause an error, which falls with their number."""
    real, fake = normal(0, 12), normal(1, 10) + 0.5
    value, error = kernel_distance(real, fake, subsets=2000)
    error_of_subsets = error / (1 / 2000 + 1) ** 0.5 / 2000**0.5
    assert abs(value - plain(real, fake)) < 4 * error_of_subsets
    assert error_of_subsets < 0.06 * abs(value)


def test_distance_of_two_repeated_points_is_exact() -> None:
    a, b = torch.tensor([1.0, 2, 0, 3]), torch.tensor([2.0, 0, 1, 1])
    value, error = kernel_distance(a.expand(20, 4), b.expand(30, 4))
    kernels = [(x @ y / 4 + 1).item() ** 3 for x, y in ((a, a), (b, b), (a, b))]
    assert value == pytest.approx(kernels[0] + kernels[1] - 2 * kernels[2])
    assert error == pytest.approx(0, abs=1e-9)


def test_samples_of_one_distribution_get_0_on_average() -> None:
    distances = [
        kernel_distance(normal(seed), normal(seed + 100), subset_size=50) for seed in range(20)
    ]
    values = [value for value, _ in distances]
    assert abs(statistics.fmean(values)) < 3 * statistics.stdev(values) / 20**0.5
    assert min(values) < 0 < max(values), "a biased estimator would be above 0"
    assert all(abs(value) < 3 * error for value, error in distances)


@pytest.mark.parametrize(("count", "subset_size"), [(200, 50), (60, 1000)])
def test_standard_error_is_the_spread_over_new_samples(count: int, subset_size: int) -> None:
    distances = [
        kernel_distance(
            normal(seed, count), normal(seed + 100, count) + 0.4, subset_size=subset_size
        )
        for seed in range(30)
    ]
    spread = statistics.stdev(value for value, _ in distances)
    standard_error = statistics.fmean(error for _, error in distances)
    assert 0.7 * spread < standard_error < 1.5 * spread


def test_distance_grows_with_a_shift() -> None:
    real, fake = normal(0), normal(1)
    growing = [kernel_distance(real, fake + shift).value for shift in (0, 0.5, 1, 2)]
    assert growing == sorted(growing)
    assert growing[1] > 5 * abs(growing[0])


def test_distance_is_repeatable_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    real, fake = normal(0), normal(1)
    assert kernel_distance(real, fake, subset_size=50) == kernel_distance(
        real, fake, subset_size=50
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("real", "fake", "settings", "message"),
    [
        (normal(0), normal(1, 3), {}, "needs 4 samples and 2 subsets of 2, got 200 and 3"),
        (normal(0), normal(1), {"subset_size": 1}, "2 subsets of 2, got .* for 50 of 1"),
        (normal(0), normal(1), {"subsets": 1}, "2 subsets of 2, got .* for 1 of 1000"),
        (normal(0), normal(1, width=3), {}, "one width"),
        (normal(0).log(), normal(1), {}, "real features hold NaN"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(
    real: Tensor, fake: Tensor, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_distance(real, fake, **settings)
