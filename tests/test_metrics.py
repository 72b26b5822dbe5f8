"""The sliced Wasserstein distance where it is known."""

import math

import pytest
import torch

from gan.metrics.sliced_wasserstein import sliced_wasserstein


def points(seed: int, count: int = 200, dimensions: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator)


def test_equal_sets_have_no_distance_whatever_their_order() -> None:
    real = points(0)
    shuffled = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(1))]
    assert sliced_wasserstein(real, shuffled) == pytest.approx(0, abs=1e-6)


def test_a_shift_is_seen_as_its_mean_square_along_a_line() -> None:
    """Along a unit vector in d dimensions the shift t is t.u, whose mean square is |t|^2 / d."""
    real, shift = points(0), 3 * points(1, count=1)
    expected = shift.norm().item() / math.sqrt(20)
    assert sliced_wasserstein(real, real + shift) == pytest.approx(expected, rel=0.1)


def test_a_scaling_is_known_exactly_in_one_dimension() -> None:
    real = points(0, dimensions=1)
    expected = real.square().mean().sqrt().item()
    assert sliced_wasserstein(real, 2 * real) == pytest.approx(expected, rel=1e-5)


def test_it_is_symmetric_and_grows_with_the_difference() -> None:
    real, fake = points(0), points(1)
    assert sliced_wasserstein(real, fake) == sliced_wasserstein(fake, real)
    growing = [sliced_wasserstein(real, fake + shift) for shift in (0.0, 0.5, 1.0)]
    assert growing == sorted(growing)
    collapsed = real[:1].expand_as(real)
    assert sliced_wasserstein(real, collapsed) > 4 * sliced_wasserstein(real, fake)


def test_it_draws_from_no_global_generator() -> None:
    before = torch.get_rng_state()
    assert sliced_wasserstein(points(0), points(1)) == sliced_wasserstein(points(0), points(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fake", [points(0, count=100), points(0, dimensions=10), points(0)[0]])
def test_sets_of_different_shapes_are_refused(fake: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(200, 20\)"):
        sliced_wasserstein(points(0), fake)
