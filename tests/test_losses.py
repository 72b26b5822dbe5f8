"""Losses against their textbook formulas, and gradients at logits where a sigmoid has none."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gan.losses import (
    Loss,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    relativistic,
    wasserstein,
)

LOGISTIC = [non_saturating(), minimax()]
ALL = [*LOGISTIC, least_squares(), wasserstein(), hinge(), relativistic()]


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pair = 3 * torch.randn(2, 32, 1, generator=generator, dtype=torch.float64)
    return pair[0], pair[1]


@pytest.mark.parametrize("loss", LOGISTIC)
def test_the_discriminator_minimises_cross_entropy(
    loss: Loss, logits: tuple[Tensor, Tensor]
) -> None:
    real, fake = (logit.sigmoid() for logit in logits)
    expected = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(loss.discriminator(*logits), expected)


def test_the_generators_logistic_losses_are_those_of_the_paper(
    logits: tuple[Tensor, Tensor],
) -> None:
    probability = logits[1].sigmoid()
    torch.testing.assert_close(non_saturating().generator(*logits), -probability.log().mean())
    torch.testing.assert_close(minimax().generator(*logits), (1 - probability).log().mean())


@pytest.mark.parametrize("make", [non_saturating, minimax])
def test_label_smoothing_is_cross_entropy_with_another_target_for_real_samples(
    make: type[Loss], logits: tuple[Tensor, Tensor]
) -> None:
    real, fake = logits
    target = torch.full_like(real, 0.9)
    expected = binary_cross_entropy_with_logits(real, target) + binary_cross_entropy_with_logits(
        fake, torch.zeros_like(fake)
    )
    smoothed = make(label_smoothing=0.1)  # type: ignore[call-arg]
    torch.testing.assert_close(smoothed.discriminator(*logits), expected)
    torch.testing.assert_close(smoothed.generator(*logits), make().generator(*logits))  # type: ignore[call-arg]


def test_least_squares_is_its_formula(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    half = 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()
    torch.testing.assert_close(least_squares().discriminator(real, fake), half)
    torch.testing.assert_close(
        least_squares().generator(real, fake), 0.5 * ((fake - 1) ** 2).mean()
    )
    smoothed = 0.5 * ((real - 0.8) ** 2).mean() + 0.5 * (fake**2).mean()
    ours = least_squares(label_smoothing=0.2)
    torch.testing.assert_close(ours.discriminator(real, fake), smoothed)
    torch.testing.assert_close(ours.generator(real, fake), least_squares().generator(real, fake))


def test_wasserstein_is_its_formula(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    torch.testing.assert_close(wasserstein().discriminator(real, fake), (fake - real).mean())
    torch.testing.assert_close(wasserstein().generator(real, fake), -fake.mean())


def test_hinge_is_its_formula_and_has_no_gradient_beyond_the_margin(
    logits: tuple[Tensor, Tensor],
) -> None:
    real, fake = logits
    expected = sum(max(0.0, 1 - float(x)) for x in real) / 32
    expected += sum(max(0.0, 1 + float(x)) for x in fake) / 32
    assert hinge().discriminator(real, fake).item() == pytest.approx(expected)
    torch.testing.assert_close(hinge().generator(real, fake), -fake.mean())
    far = torch.full((4, 1), 7.0, requires_grad=True)
    hinge().discriminator(far, -far.detach()).backward()
    assert far.grad is not None
    assert not far.grad.any(), "there is a gradient beyond the margin"


def test_relativistic_compares_pairs_and_uses_real_logits(logits: tuple[Tensor, Tensor]) -> None:
    real, fake = logits
    expected = sum(math.log1p(math.exp(-float(r - f))) for r, f in zip(real, fake, strict=True))
    assert relativistic().discriminator(real, fake).item() == pytest.approx(expected / 32)
    torch.testing.assert_close(
        relativistic().generator(real, fake), relativistic().discriminator(fake, real)
    )
    shifted = relativistic().discriminator(real + 5, fake + 5)
    torch.testing.assert_close(shifted, relativistic().discriminator(real, fake))
    assert [loss.uses_real_logits for loss in ALL] == [False] * 5 + [True]


@pytest.mark.parametrize("loss", ALL)
def test_a_generators_loss_falls_as_its_samples_seem_more_real(
    loss: Loss, logits: tuple[Tensor, Tensor]
) -> None:
    real, fake = logits[0], logits[1].clamp(-3, 0.9).requires_grad_()
    loss.generator(real, fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


@pytest.mark.parametrize("loss", ALL)
def test_gradients_agree_with_finite_differences(loss: Loss, logits: tuple[Tensor, Tensor]) -> None:
    real, fake = (logit[:6].clone().requires_grad_() for logit in logits)
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(lambda f: loss.generator(real.detach(), f), (fake,))


@pytest.mark.parametrize("loss", LOGISTIC)
def test_undecided_logits_give_the_losses_of_a_coin_toss(loss: Loss) -> None:
    undecided = torch.zeros(8, 1, dtype=torch.float64)
    assert loss.discriminator(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert abs(loss.generator(undecided, undecided).item()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("logit", [20.0, 50.0, 200.0, 1e4])
def test_gradients_survive_extreme_logits(logit: float) -> None:
    """A float32 sigmoid is exactly 1 beyond a logit of 17, and its logarithm's gradient 0."""

    def slope(value: float, loss_of: str, loss: Loss) -> float:
        x = torch.full((4, 1), value, requires_grad=True)
        other = torch.zeros(4, 1)
        terms = {
            "real": lambda: loss.discriminator(x, other),
            "fake": lambda: loss.discriminator(other, x),
            "generator": lambda: loss.generator(other, x),
        }
        output = terms[loss_of]()
        assert output.isfinite()
        output.backward()
        assert x.grad is not None
        return 4 * float(x.grad[0])

    for loss in (*LOGISTIC, relativistic()):
        assert slope(-logit, "real", loss) == pytest.approx(-1, abs=1e-6)
        assert slope(logit, "real", loss) == pytest.approx(0, abs=1e-6)
        assert slope(logit, "fake", loss) == pytest.approx(1, abs=1e-6)
        assert slope(-logit, "fake", loss) == pytest.approx(0, abs=1e-6)
    # If the discriminator is sure of a fake, the minimax loss alone has no gradient.
    assert slope(-logit, "generator", non_saturating()) == pytest.approx(-1, abs=1e-6)
    assert slope(-logit, "generator", relativistic()) == pytest.approx(-1, abs=1e-6)
    assert slope(-logit, "generator", minimax()) == pytest.approx(0, abs=1e-6)
    assert slope(logit, "generator", non_saturating()) == pytest.approx(0, abs=1e-6)
    assert slope(logit, "generator", minimax()) == pytest.approx(-1, abs=1e-6)
