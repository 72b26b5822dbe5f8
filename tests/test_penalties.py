"""Penalties against closed forms and finite differences."""

import pytest
import torch
from torch import Tensor, nn

from gan import penalties
from gan.penalties import Penalty, dragan, r1, r1r2, r2, weight_clip, wgan_gp

SHAPE = (6, 1, 3, 4)
GRADIENT = [r1(gamma=1.5), r2(gamma=1.5), r1r2(gamma=1.5), wgan_gp(weight=1.5), dragan(weight=1.5)]


def images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def term(
    penalty: Penalty, discriminator: object, real: Tensor, fake: Tensor, seed: int = 0
) -> Tensor:
    assert penalty.project is None
    noise = torch.Generator().manual_seed(seed)
    drawn = [penalty.draw(real, noise)] if penalty.draw else []
    return penalties.term(penalty, discriminator, real, fake, drawn)  # type: ignore[arg-type]


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def squared(x: Tensor) -> Tensor:
    """|x|^2, whose gradient is 2x."""
    return x.flatten(1).square().sum(1, keepdim=True)


def test_of_a_linear_discriminator_every_gradient_is_its_weights() -> None:
    linear = nn.Linear(12, 1).double()

    def flat(x: Tensor) -> Tensor:
        return linear(x.flatten(1))  # type: ignore[no-any-return]

    norm = linear.weight.square().sum()
    real, fake = images(0), images(1)
    torch.testing.assert_close(term(r1(gamma=2.5), flat, real, fake), 2.5 / 2 * norm)
    torch.testing.assert_close(term(r2(gamma=2.5), flat, real, fake), 2.5 / 2 * norm)
    torch.testing.assert_close(term(r1r2(gamma=2.5), flat, real, fake), 2.5 * norm)
    for penalty in (wgan_gp(weight=10), dragan(weight=10)):
        torch.testing.assert_close(
            term(penalty, flat, real, fake), 10 * (norm.sqrt() - 1).square(), rtol=1e-9, atol=0
        )


def test_zero_centred_penalties_of_a_quadratic_discriminator() -> None:
    """Half the mean of |2x|^2 is 2 |x|^2."""
    real, fake = images(0), images(1)
    ours, theirs = (2 * x.flatten(1).square().sum(1).mean() for x in (real, fake))
    torch.testing.assert_close(term(r1(gamma=1), squared, real, fake), ours)
    torch.testing.assert_close(term(r2(gamma=1), squared, real, fake), theirs)
    torch.testing.assert_close(term(r1r2(gamma=1), squared, real, fake), ours + theirs)


def test_wgan_gp_looks_between_real_and_fake_samples() -> None:
    """On the line from 3e to 5e every |x| is between, and the gradient of |x|^2 / 2 is x."""
    unit = images(0)
    unit = unit / unit.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    seen: list[Tensor] = []

    def half(x: Tensor) -> Tensor:
        seen.append(x.detach().flatten(1).norm(dim=1))
        return squared(x) / 2

    value = term(wgan_gp(weight=10), half, 3 * unit, 5 * unit)
    (norms,) = seen
    assert ((norms >= 3) & (norms <= 5)).all()
    assert len(norms.unique()) == 6, "each sample has a point of its own"
    torch.testing.assert_close(value, 10 * (norms - 1).square().mean())


def test_dragan_looks_near_real_samples() -> None:
    real = images(0)
    seen: list[Tensor] = []

    def looked(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return squared(x) / 2

    value = term(dragan(weight=2), looked, real, images(1))
    away = (seen[0] - real) / real.std()
    assert (away >= 0).all()
    assert (away < 0.5).all()
    assert len(away.unique()) == away.numel()
    torch.testing.assert_close(
        value, 2 * (seen[0].flatten(1).norm(dim=1) - 1).square().mean(), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("make", [wgan_gp, dragan])
def test_random_points_come_from_the_given_generator(make: type[Penalty]) -> None:
    penalty = make(weight=1.0)  # type: ignore[call-arg]
    network, real, fake = small(), images(0), images(1)
    before = torch.get_rng_state()
    same = [term(penalty, network, real, fake, seed) for seed in (3, 3, 4)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("penalty", "looks_at"), [(r1(gamma=1), 0), (r2(gamma=1), 1)])
def test_r1_and_r2_look_at_one_kind_of_sample_and_leave_it_as_it_is(
    penalty: Penalty, looks_at: int
) -> None:
    network = small()
    pair = [images(0), images(1).requires_grad_()]
    value = term(penalty, network, pair[0], pair[1])
    other = [images(5), images(6)]
    other[looks_at] = pair[looks_at]
    torch.testing.assert_close(value, term(penalty, network, other[0], other[1]))
    value.backward()
    assert pair[1].grad is None
    assert not pair[0].requires_grad


def test_a_penalty_is_a_mean_over_the_batch() -> None:
    network, real = small(), images(0)
    whole = term(r1(gamma=1), network, real, real)
    parts = [term(r1(gamma=1), network, part, part) for part in real.split(1)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())
    torch.testing.assert_close(term(r1(gamma=3), network, real, real), 3 * whole)


@pytest.mark.parametrize("penalty", GRADIENT)
def test_gradients_against_finite_differences(penalty: Penalty) -> None:
    network = small()
    real, fake = images(0), images(1)
    term(penalty, network, real, fake).backward()
    weight = next(network.parameters())
    assert weight.grad is not None
    for index in ((0, 0), (2, 7), (4, 11)):
        ends = []
        for nudge in (1e-5, -1e-5):
            with torch.no_grad():
                weight[index] += nudge
            ends.append(term(penalty, network, real, fake).item())
            with torch.no_grad():
                weight[index] -= nudge
        expected = (ends[0] - ends[1]) / 2e-5
        assert weight.grad[index].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", [wgan_gp(weight=1), dragan(weight=1)])
def test_a_dead_discriminator_has_finite_gradients(penalty: Penalty) -> None:
    network = small()
    nn.init.zeros_(network[1].weight)  # type: ignore[index]
    term(penalty, network, images(0), images(1)).backward()
    assert all(w.grad is None or w.grad.isfinite().all() for w in network.parameters())


def test_weights_are_clipped() -> None:
    network = small()
    with torch.no_grad():
        network[1].weight[0, 0] = 3.0  # type: ignore[index]
        network[1].weight[0, 1] = 0.005  # type: ignore[index]
    penalty = weight_clip(limit=0.01)
    assert penalty.points is None
    assert penalty.project is not None
    first, *others = map(penalty.project, network.parameters())
    assert all(w.abs().max() <= 0.01 for w in (first, *others))
    assert (first[0, 0].item(), first[0, 1].item()) == (0.01, 0.005)
