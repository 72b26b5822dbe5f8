"""Penalties against closed forms and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from gan.penalties import (
    Penalty,
    dragan,
    gradient_penalty,
    r1,
    r1r2,
    r2,
    weight_clip,
    wgan_gp,
)

SHAPE = (6, 1, 3, 4)
GRADIENT_PENALTIES = [
    r1(gamma=1.5),
    r2(gamma=1.5),
    r1r2(gamma=1.5),
    wgan_gp(weight=1.5),
    dragan(weight=1.5),
]


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def value_of(
    penalty: Penalty, discriminator: object, real: Tensor, fake: Tensor, seed: int = 0
) -> Tensor:
    assert penalty.clip is None
    noise = torch.Generator().manual_seed(seed)
    numbers = [penalty.draw(real, noise)] if penalty.draw else []
    return gradient_penalty(penalty, discriminator, real, fake, numbers)  # type: ignore[arg-type]


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def squared(x: Tensor) -> Tensor:
    """Return |x|^2, whose gradient is 2x."""
    return x.flatten(1).square().sum(1, keepdim=True)


def test_penalties_of_a_linear_discriminator_depend_only_on_its_weights() -> None:
    linear = nn.Linear(12, 1).double()

    def flat(x: Tensor) -> Tensor:
        return linear(x.flatten(1))  # type: ignore[no-any-return]

    norm = linear.weight.square().sum()
    real, fake = images(0), images(1)
    torch.testing.assert_close(value_of(r1(gamma=2.5), flat, real, fake), 2.5 / 2 * norm)
    torch.testing.assert_close(value_of(r2(gamma=2.5), flat, real, fake), 2.5 / 2 * norm)
    torch.testing.assert_close(value_of(r1r2(gamma=2.5), flat, real, fake), 2.5 * norm)
    for penalty in (wgan_gp(weight=10), dragan(weight=10)):
        torch.testing.assert_close(
            value_of(penalty, flat, real, fake), 10 * (norm.sqrt() - 1).square(), rtol=1e-9, atol=0
        )


def test_r1_and_r2_of_a_quadratic_discriminator_are_their_closed_forms() -> None:
    """Compare with half the mean of |2x|^2, which is 2 |x|^2."""
    real, fake = images(0), images(1)
    ours, theirs = (2 * x.flatten(1).square().sum(1).mean() for x in (real, fake))
    torch.testing.assert_close(value_of(r1(gamma=1), squared, real, fake), ours)
    torch.testing.assert_close(value_of(r2(gamma=1), squared, real, fake), theirs)
    torch.testing.assert_close(value_of(r1r2(gamma=1), squared, real, fake), ours + theirs)


def test_wgan_gp_looks_between_real_and_fake_samples() -> None:
    """Use points from 3e to 5e, whose norms lie between 3 and 5; the gradient of |x|^2 / 2 is x."""
    unit = images(0)
    unit = unit / unit.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    seen: list[Tensor] = []

    def half(x: Tensor) -> Tensor:
        seen.append(x.detach().flatten(1).norm(dim=1))
        return squared(x) / 2

    value = value_of(wgan_gp(weight=10), half, 3 * unit, 5 * unit)
    (norms,) = seen
    assert ((norms >= 3) & (norms <= 5)).all()
    assert len(norms.unique()) == 6, "samples share a point"
    torch.testing.assert_close(value, 10 * (norms - 1).square().mean())


def test_dragan_looks_near_real_samples() -> None:
    real = images(0)
    seen: list[Tensor] = []

    def half(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return squared(x) / 2

    value = value_of(dragan(weight=2), half, real, images(1))
    noise = (seen[0] - real) / real.std()
    assert (noise >= 0).all()
    assert (noise < 0.5).all()
    assert len(noise.unique()) == noise.numel()
    torch.testing.assert_close(
        value, 2 * (seen[0].flatten(1).norm(dim=1) - 1).square().mean(), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("make", [wgan_gp, dragan])
def test_random_points_come_from_the_given_generator(make: type[Penalty]) -> None:
    penalty = make(weight=1.0)  # type: ignore[call-arg]
    network, real, fake = small(), images(0), images(1)
    before = torch.get_rng_state()
    values = [value_of(penalty, network, real, fake, seed) for seed in (3, 3, 4)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("penalty", "looks_at"), [(r1(gamma=1), 0), (r2(gamma=1), 1)])
def test_r1_and_r2_look_at_one_kind_of_sample_and_do_not_change_it(
    penalty: Penalty, looks_at: int
) -> None:
    network = small()
    pair = [images(0), images(1).requires_grad_()]
    value = value_of(penalty, network, pair[0], pair[1])
    other = [images(5), images(6)]
    other[looks_at] = pair[looks_at]
    torch.testing.assert_close(value, value_of(penalty, network, other[0], other[1]))
    value.backward()
    assert pair[1].grad is None
    assert not pair[0].requires_grad


def test_a_penalty_is_a_mean_over_the_batch() -> None:
    network, real = small(), images(0)
    whole = value_of(r1(gamma=1), network, real, real)
    parts = [value_of(r1(gamma=1), network, part, part) for part in real.split(1)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    torch.testing.assert_close(value_of(r1(gamma=3), network, real, real), 3 * whole)


@pytest.mark.parametrize("penalty", GRADIENT_PENALTIES)
def test_gradients_agree_with_finite_differences(penalty: Penalty) -> None:
    network = small()
    real, fake = images(0), images(1)
    value_of(penalty, network, real, fake).backward()
    weight = next(network.parameters())
    assert weight.grad is not None
    for index in ((0, 0), (2, 7), (4, 11)):
        ends = []
        for nudge in (1e-5, -1e-5):
            with torch.no_grad():
                weight[index] += nudge
            ends.append(value_of(penalty, network, real, fake).item())
            with torch.no_grad():
                weight[index] -= nudge
        expected = (ends[0] - ends[1]) / 2e-5
        assert weight.grad[index].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", [wgan_gp(weight=1), dragan(weight=1)])
def test_a_dead_discriminator_has_finite_gradients(penalty: Penalty) -> None:
    network = small()
    nn.init.zeros_(network[1].weight)  # type: ignore[index]
    value_of(penalty, network, images(0), images(1)).backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in network.parameters())


def test_weight_clip_limits_every_weight() -> None:
    network = small()
    with torch.no_grad():
        network[1].weight[0, 0] = 3.0  # type: ignore[index]
        network[1].weight[0, 1] = 0.005  # type: ignore[index]
    penalty = weight_clip(limit=0.01)
    assert penalty.points is None
    assert penalty.clip is not None
    first, *others = map(penalty.clip, network.parameters())
    assert all(w.abs().max() <= 0.01 for w in (first, *others))
    assert (first[0, 0].item(), first[0, 1].item()) == (0.01, 0.005)
