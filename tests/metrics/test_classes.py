"""Metrics of classes and modes, where their values are known."""

import math
import statistics
from itertools import pairwise

import pytest
import torch

from gan.data import Mixture, grid25, ring8
from gan.metrics.classes import (
    classifier_score,
    inception_score,
    mode_count,
    nearest_modes,
    reverse_kl,
)


def test_classifier_score_lies_between_1_and_the_number_of_classes() -> None:
    uniform = torch.full((50, 10), 0.1)
    certain = torch.eye(10).repeat(5, 1)
    assert classifier_score(uniform) == pytest.approx(1)
    assert classifier_score(certain[:1].expand(50, 10)) == pytest.approx(1)
    assert classifier_score(certain) == pytest.approx(10)
    assert classifier_score(certain[:4]) == pytest.approx(4)
    between = torch.rand(50, 10).softmax(1)
    assert 1 < classifier_score(between) < 10


def test_classifier_score_of_two_kinds_of_samples() -> None:
    """Half of the rows are (p, 1 - p), half are (1 - p, p). The exponent is ln 2 minus the entropy
    of p."""
    p = 0.9
    rows = torch.tensor([[p, 1 - p], [1 - p, p]]).repeat(10, 1)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert classifier_score(rows) == pytest.approx(math.exp(math.log(2) - entropy), rel=1e-6)


def test_each_mode_counts_once() -> None:
    assert mode_count(torch.tensor([3, 3, 7, 0]), classes=10) == 3
    assert mode_count(torch.arange(1000), classes=1000) == 1000
    assert mode_count(torch.tensor([], dtype=torch.int64), classes=10) == 0


def test_reverse_kl_of_known_frequencies() -> None:
    uniform = torch.full((4,), 0.25)
    assert reverse_kl(torch.arange(4), uniform) == pytest.approx(0, abs=1e-12)
    assert reverse_kl(torch.zeros(9, dtype=torch.int64), uniform) == pytest.approx(math.log(4))
    labels, frequencies = torch.tensor([0, 0, 0, 1]), torch.tensor([0.5, 0.3, 0.2])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.3)
    assert reverse_kl(labels, frequencies) == pytest.approx(expected, rel=1e-6)
    # A class that is never generated adds nothing. One that is never real makes it infinite.
    assert reverse_kl(torch.tensor([0, 1]), torch.tensor([0.5, 0.5, 0])) == pytest.approx(0)
    assert reverse_kl(torch.tensor([0, 2]), torch.tensor([0.5, 0.5, 0])) == math.inf


def test_reverse_kl_of_a_perfect_generator_is_at_its_floor() -> None:
    classes, n = 20, 400
    frequencies = torch.full((classes,), 1 / classes)
    values = [reverse_kl(torch.randint(classes, (n,)), frequencies) for _ in range(300)]
    assert statistics.fmean(values) == pytest.approx((classes - 1) / (2 * n), rel=0.1)


def test_points_belong_to_the_nearest_mode() -> None:
    centers = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    points = torch.tensor([[1.0, 1], [9, 2], [4.9, 4.8], [-3, 40]])
    nearest, high_quality = nearest_modes(points, centers, std=1.0)
    assert nearest.tolist() == [0, 1, 0, 2]
    assert nearest.dtype == torch.int64
    assert high_quality.tolist() == [True, True, False, False]


def test_high_quality_ends_at_three_standard_deviations() -> None:
    centers = torch.tensor([[1.0, 2.0]])
    edge = torch.tensor([[0.3 - 1e-6, 0.0], [0.3 + 1e-6, 0.0], [0.18, 0.24 - 1e-6], [0.22, 0.22]])
    _, high_quality = nearest_modes(centers + edge, centers, std=0.1)
    assert high_quality.tolist() == [True, False, True, False]


@pytest.mark.parametrize("mixture", [ring8(), grid25()])
def test_points_of_a_mixture_are_assigned_to_their_own_mode(mixture: Mixture) -> None:
    points, labels = mixture.draw(20_000, seed=0)
    nearest, high_quality = nearest_modes(points, *mixture.modes)
    assert torch.equal(nearest, labels)
    # A share of 0.9889 among 20,000 points has a standard error of 0.0007.
    assert high_quality.double().mean().item() == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert mode_count(labels[high_quality], mixture.classes) == mixture.classes


def test_inception_score_is_the_mean_of_the_scores_of_ten_parts() -> None:
    probabilities = torch.randn(205, 30, generator=torch.Generator().manual_seed(0)).softmax(1)
    ends = [0, 20, 41, 61, 82, 102, 123, 143, 164, 184, 205]
    scores = [classifier_score(probabilities[a:b]) for a, b in pairwise(ends)]
    value, error = inception_score(probabilities)
    assert value == pytest.approx(statistics.mean(scores))
    assert error == pytest.approx(statistics.pstdev(scores) / 10**0.5)
    assert tuple(inception_score(torch.eye(10).repeat(10, 1))) == pytest.approx((10, 0))
    with pytest.raises(ValueError, match="10 parts need as many samples, got 9"):
        inception_score(probabilities[:9])
