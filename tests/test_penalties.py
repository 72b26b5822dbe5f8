"""Penalties against closed forms and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from gan.penalties import r1

SHAPE = (6, 1, 3, 4)


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def test_r1_of_a_linear_discriminator_is_its_squared_weights() -> None:
    linear = nn.Linear(12, 1).double()
    penalty = r1(lambda x: linear(x.flatten(1)), images(0), images(1), gamma=2.5)
    torch.testing.assert_close(penalty, 2.5 / 2 * linear.weight.square().sum())


def test_r1_of_a_quadratic_discriminator() -> None:
    """D(x) = |x|^2 has the gradient 2x: half the mean of |2x|^2 is 2 |x|^2."""
    real = images(0)
    penalty = r1(lambda x: x.flatten(1).square().sum(1, keepdim=True), real, images(1), gamma=1.0)
    torch.testing.assert_close(penalty, 2 * real.flatten(1).square().sum(1).mean())


def test_r1_looks_at_real_images_alone_and_leaves_them_as_they_are() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = images(0), images(1).requires_grad_()
    penalty = r1(network, real, fake, gamma=1.0)
    torch.testing.assert_close(penalty, r1(network, real, images(2), gamma=1.0))
    penalty.backward()
    assert fake.grad is None
    assert not real.requires_grad


def test_r1_is_a_mean_over_the_batch() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real = images(0)
    whole = r1(network, real, real, gamma=1.0)
    parts = [r1(network, part, part, gamma=1.0) for part in real.split(1)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    torch.testing.assert_close(r1(network, real, real, gamma=3.0), 3 * whole)


def test_the_gradient_of_r1_against_finite_differences() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real = images(0)
    r1(network, real, real, gamma=1.5).backward()
    weight = next(network.parameters())
    assert weight.grad is not None
    for index in ((0, 0), (2, 7), (4, 11)):
        ends = []
        for nudge in (1e-5, -1e-5):
            with torch.no_grad():
                weight[index] += nudge
            ends.append(r1(network, real, real, gamma=1.5).item())
            with torch.no_grad():
                weight[index] -= nudge
        expected = (ends[0] - ends[1]) / 2e-5
        assert weight.grad[index].item() == pytest.approx(expected, rel=1e-5)
