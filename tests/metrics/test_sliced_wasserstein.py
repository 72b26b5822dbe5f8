"""The sliced Wasserstein distance, where its value is known."""

import math

import pytest
import torch

from gan.metrics.sliced_wasserstein import sliced_wasserstein


def normal(seed: int, count: int = 200, dimensions: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator)


def test_equal_sets_have_no_distance_in_any_order() -> None:
    real = normal(0)
    shuffled = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(1))]
    assert sliced_wasserstein(real, shuffled) == pytest.approx(0, abs=1e-6)


def test_shift_counts_with_its_mean_square_along_a_line() -> None:
    """A shift t is t.u along a unit vector u. In d dimensions its mean square is |t|^2 / d."""
    real, shift = normal(0), 3 * normal(1, count=1)
    expected = shift.norm().item() / math.sqrt(20)
    assert sliced_wasserstein(real, real + shift) == pytest.approx(expected, rel=0.1)


def test_scaling_in_one_dimension_is_exact() -> None:
    real = normal(0, dimensions=1)
    expected = real.square().mean().sqrt().item()
    assert sliced_wasserstein(real, 2 * real) == pytest.approx(expected, rel=1e-5)


def test_distance_is_symmetric_and_grows_with_the_difference() -> None:
    real, fake = normal(0), normal(1)
    assert sliced_wasserstein(real, fake) == sliced_wasserstein(fake, real)
    growing = [sliced_wasserstein(real, fake + shift) for shift in (0.0, 0.5, 1.0)]
    assert growing == sorted(growing)
    collapsed = real[:1].expand_as(real)
    assert sliced_wasserstein(real, collapsed) > 4 * sliced_wasserstein(real, fake)


def test_distance_is_repeatable_and_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert sliced_wasserstein(normal(0), normal(1)) == sliced_wasserstein(normal(0), normal(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fake", [normal(0, count=100), normal(0, dimensions=10), normal(0)[0]])
def test_sets_of_different_shapes_are_refused(fake: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(200, 20\)"):
        sliced_wasserstein(normal(0), fake)
