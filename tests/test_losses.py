"""Losses against their textbook formulas, and their gradients where a sigmoid has none."""

import math

import pytest
import torch
from torch import Tensor

from gan.losses import Loss, minimax, non_saturating


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pair = 3 * torch.randn(2, 32, 1, generator=generator, dtype=torch.float64)
    return pair[0], pair[1]


@pytest.mark.parametrize("loss", [non_saturating(), minimax()])
def test_the_discriminator_minimises_cross_entropy(
    loss: Loss, logits: tuple[Tensor, Tensor]
) -> None:
    real, fake = (logit.sigmoid() for logit in logits)
    expected = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(loss.discriminator(*logits), expected)


def test_the_generators_losses_are_those_of_the_paper(logits: tuple[Tensor, Tensor]) -> None:
    _, fake = logits
    probability = fake.sigmoid()
    torch.testing.assert_close(non_saturating().generator(fake), -probability.log().mean())
    torch.testing.assert_close(minimax().generator(fake), (1 - probability).log().mean())


@pytest.mark.parametrize("loss", [non_saturating(), minimax()])
def test_where_nothing_can_be_told_apart(loss: Loss) -> None:
    undecided = torch.zeros(8, 1, dtype=torch.float64)
    assert loss.discriminator(undecided, undecided).item() == pytest.approx(2 * math.log(2))
    assert abs(loss.generator(undecided).item()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("logit", [20.0, 50.0, 200.0, 1e4])
def test_gradients_at_extreme_logits(logit: float) -> None:
    """A float32 sigmoid is exactly 1 beyond a logit of 17, and its logarithm's gradient 0."""

    def slope(value: float, loss_of: str, loss: Loss) -> float:
        x = torch.full((4, 1), value, requires_grad=True)
        other = torch.zeros(4, 1)
        terms = {
            "real": lambda: loss.discriminator(x, other),
            "fake": lambda: loss.discriminator(other, x),
            "generator": lambda: loss.generator(x),
        }
        output = terms[loss_of]()
        assert output.isfinite()
        output.backward()
        assert x.grad is not None
        return 4 * float(x.grad[0])

    for loss in (non_saturating(), minimax()):
        assert slope(-logit, "real", loss) == pytest.approx(-1, abs=1e-6)
        assert slope(logit, "real", loss) == pytest.approx(0, abs=1e-6)
        assert slope(logit, "fake", loss) == pytest.approx(1, abs=1e-6)
        assert slope(-logit, "fake", loss) == pytest.approx(0, abs=1e-6)
    # Where the discriminator is sure of a fake, only the non-saturating loss still teaches.
    assert slope(-logit, "generator", non_saturating()) == pytest.approx(-1, abs=1e-6)
    assert slope(-logit, "generator", minimax()) == pytest.approx(0, abs=1e-6)
    assert slope(logit, "generator", non_saturating()) == pytest.approx(0, abs=1e-6)
    assert slope(logit, "generator", minimax()) == pytest.approx(-1, abs=1e-6)
