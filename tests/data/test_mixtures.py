"""Mixtures in the plane: the places of their Gaussians, the distribution of draws, pictures."""

import math

import pytest
import torch

from gan.data import Data, Mixture, grid25, ring8, spiral, to_raw_samples
from gan.data.mixtures import REAL_POINTS
from gan.data.pictures import scatter
from gan.seeds import derive_seed

MIXTURES = [(ring8(), 8, 0.01), (grid25(), 25, 0.05), (spiral(), 20, 0.03)]


def test_ring8_lies_on_the_unit_circle_at_equal_angles() -> None:
    x, y = ring8().centers.unbind(1)
    torch.testing.assert_close(torch.hypot(x, y), torch.ones(8))
    degrees = torch.rad2deg(torch.atan2(y, x)).round().remainder(360)
    assert degrees.tolist() == [0, 45, 90, 135, 180, 225, 270, 315]


def test_grid25_has_every_pair_of_even_numbers_up_to_4() -> None:
    evens = (-4, -2, 0, 2, 4)
    assert grid25().centers.tolist() == [[x, y] for x in evens for y in evens]


def test_spiral_follows_its_curve_at_equal_distances_along_it() -> None:
    centers = spiral().centers.double()
    radius = centers.norm(dim=1) * 7.5
    expected = torch.stack([radius * radius.cos(), radius * radius.sin()], dim=1) / 7.5
    torch.testing.assert_close(centers, expected, rtol=0, atol=1e-5)
    assert radius[0].item() == pytest.approx(1.5 * math.pi, abs=1e-5)
    assert radius[-1].item() == pytest.approx(4.5 * math.pi, abs=1e-5)
    lengths = []
    for start, end in zip(radius[:-1].tolist(), radius[1:].tolist(), strict=True):
        t = torch.linspace(start, end, 2000, dtype=torch.float64)
        curve = torch.stack([t * t.cos(), t * t.sin()], dim=1)
        lengths.append((curve[1:] - curve[:-1]).norm(dim=1).sum().item())
    assert lengths == pytest.approx([lengths[0]] * 19, abs=1e-4)


@pytest.mark.parametrize(("mixture", "classes", "std"), MIXTURES)
def test_draws_are_equally_likely_gaussians(mixture: Mixture, classes: int, std: float) -> None:
    points, labels = mixture.real("train", 100_000)
    assert (points.dtype, labels.dtype) == (torch.float32, torch.int64)
    counts = torch.bincount(labels).double()
    assert (mixture.classes, len(counts), mixture.std) == (classes, classes, std)
    # Each count is binomial. We allow five standard deviations for any of the 25.
    assert (counts - 1e5 / classes).abs().max() < 5 * math.sqrt(1e5 / classes)
    noise = (points - mixture.centers[labels]).double()
    covariance = noise.T @ noise / len(noise) / std**2
    torch.testing.assert_close(covariance, torch.eye(2).double(), rtol=0, atol=0.03)
    assert noise.mean(0).abs().max() < 5 * std / math.sqrt(1e5)
    nearest = torch.cdist(points, mixture.centers).argmin(1)
    assert torch.equal(nearest, labels), "modes overlap"


def test_a_batch_of_points_depends_only_on_the_seed_and_its_number() -> None:
    state = torch.get_rng_state()
    ordered = [ring8().batches(16, seed=4).batch(number) for number in range(5)]
    jumping = ring8().batches(16, seed=4)
    assert jumping.per_epoch == 100_000 // 16
    for number in (4, 0, 2, 2):
        assert torch.equal(jumping.batch(number)[0], ordered[number][0])
        assert torch.equal(jumping.batch(number)[1], ordered[number][1])
    assert torch.equal(torch.get_rng_state(), state), "the global random state was used"
    points = torch.cat([batch for batch, _ in ordered])
    assert len(points.unique(dim=0)) == 80
    assert not torch.equal(ring8().batches(16, seed=5).batch(0)[0], ordered[0][0])


def test_real_points_are_always_the_same_and_appear_in_no_training_batch() -> None:
    train, test = (ring8().real(split, 64)[0] for split in ("train", "test"))
    assert torch.equal(ring8().real("test", 64)[0], test)
    assert not torch.equal(train, test)
    for seed in (0, 1, derive_seed(0, "real", "train")):
        assert not torch.equal(ring8().batches(64, seed).batch(0)[0], train)
    endless: Data = ring8()
    assert endless.real_size("test") is None
    assert (ring8().shape, ring8().size, ring8().classifier) == ((2,), 100_000, None)


def test_generated_points_stay_as_they_are() -> None:
    output = torch.tensor([[3.5, -7.25]])
    assert torch.equal(to_raw_samples(output), output)


def test_all_modes_are_equally_frequent() -> None:
    torch.testing.assert_close(grid25().frequencies(), torch.full((25,), 0.04).double())


def test_a_picture_of_points_is_a_plot_over_real_ones() -> None:
    real, fake = ring8().real("train", REAL_POINTS)[0], ring8().draw(50, seed=3)[0]
    limits = [(-ring8().limit, ring8().limit)] * 2
    assert torch.equal(ring8().picture(fake, None), scatter(real, fake, limits))
    data: Data = ring8()
    assert data.real_picture(50, None) is None, "the plot shows real points already"
