"""Precision, recall, density and coverage, where their values are known."""

import math
import statistics

import pytest
import torch
from torch import Tensor

from gan.metrics import neighbours
from gan.metrics.neighbours import PRDC, prdc


def normal(seed: int, count: int = 100, width: int = 3) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()


def plain(real: Tensor, fake: Tensor, k: int) -> PRDC:
    """Return the values by their definitions, one distance at a time."""
    x, y = real.tolist(), fake.tolist()

    def radius(points: list[list[float]], index: int) -> float:
        others = [p for i, p in enumerate(points) if i != index]
        return sorted(math.dist(points[index], other) for other in others)[k - 1]

    of_real = [radius(x, i) for i in range(len(x))]
    of_fake = [radius(y, j) for j in range(len(y))]
    inside = [[math.dist(a, b) < r for a, r in zip(x, of_real, strict=True)] for b in y]
    recalled = [any(math.dist(a, b) < r for b, r in zip(y, of_fake, strict=True)) for a in x]
    covered = [any(inside[j][i] for j in range(len(y))) for i in range(len(x))]
    return PRDC(
        precision=statistics.fmean(any(row) for row in inside),
        recall=statistics.fmean(recalled),
        density=sum(map(sum, inside)) / k / len(y),
        coverage=statistics.fmean(covered),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("reals", "fakes", "shift"), [(40, 30, 0.0), (12, 45, 1.0), (45, 12, 2.0)])
def test_values_follow_their_definitions(reals: int, fakes: int, shift: float, k: int) -> None:
    real, fake = normal(0, reals), 0.7 * normal(1, fakes) + shift
    assert prdc(real, fake, k=k) == pytest.approx(plain(real, fake, k))


@pytest.mark.parametrize("k", [1, 3])
def test_samples_of_one_distribution_get_the_expected_values(k: int) -> None:
    values = [prdc(normal(seed, 200), normal(seed + 50, 200), k=k) for seed in range(20)]
    assert statistics.fmean(one.density for one in values) == pytest.approx(1, abs=0.05)
    assert statistics.fmean(one.coverage for one in values) == pytest.approx(1 - 2**-k, abs=0.02)
    assert statistics.fmean(one.precision - one.recall for one in values) == pytest.approx(
        0, abs=0.03
    )


def test_disjoint_sets_get_0() -> None:
    assert prdc(normal(0), normal(1) + 100) == (0, 0, 0, 0)


def test_missing_mode_lowers_recall_and_coverage_only() -> None:
    real = torch.cat([normal(0), normal(1) + 100])
    one_mode = prdc(real, normal(2))
    two_modes = prdc(real, torch.cat([normal(2), normal(3) + 100]))
    assert one_mode.precision > 0.8
    assert one_mode.recall <= 0.5
    assert one_mode.coverage <= 0.5
    assert two_modes.recall > 0.8
    assert two_modes.coverage > 0.8


def test_precision_and_recall_swap_if_the_sets_swap() -> None:
    real, fake = normal(0), 0.5 * normal(1, 80)
    values, swapped = prdc(real, fake), prdc(fake, real)
    assert values.precision > values.recall
    assert (values.precision, values.recall) == pytest.approx((swapped.recall, swapped.precision))


def test_rotating_scaling_and_shifting_both_sets_changes_nothing() -> None:
    real, fake = normal(0), normal(1) + 0.5
    rotate = torch.linalg.qr(normal(2, 3))[0]
    expected = prdc(real, fake)
    assert prdc(real @ rotate * 7 + 1, fake @ rotate * 7 + 1) == pytest.approx(expected)


@pytest.mark.parametrize("chunk", [1, 7, 49, 50, 51])
def test_values_do_not_depend_on_the_chunk_size(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    real, fake = normal(0, 50), normal(1, 60)
    expected = prdc(real, fake)
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    assert prdc(real, fake) == expected


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (normal(0, 5), normal(1), "k=5 neighbours need more samples, got 5 and 100"),
        (normal(0), normal(1, 5), "k=5 neighbours need more samples, got 100 and 5"),
        (normal(0), normal(1, width=2), "one width"),
        (normal(0), normal(1).log(), "fake features hold NaN"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(real: Tensor, fake: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prdc(real, fake)
