"""GAN losses, as pure functions of the discriminator's logits.

Every function takes logits of shape (batch, 1), any sign and size, and returns a scalar.
Settings may be tensors () too.
The logistic ones are written with softplus, which keeps its gradient where a sigmoid followed
by a logarithm has lost it (beyond a logit of about 17 in float32).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus


class Loss(NamedTuple):
    """What each network minimises, of the logits of real and of fake samples."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    pairs: bool = False
    """Whether the generator's loss looks at the logits of real samples."""


def non_saturating(*, label_smoothing: float = 0.0) -> Loss:
    """Binary cross-entropy, the generator maximising log D(G(z)) (arXiv:1406.2661).

    Args:
        label_smoothing: what the discriminator's target for real samples falls short of 1;
            fake samples keep the target 0 (one-sided, arXiv:1606.03498).
    """
    return Loss(_cross_entropy(label_smoothing), lambda real, fake: softplus(-fake).mean())


def minimax(*, label_smoothing: float = 0.0) -> Loss:
    """Binary cross-entropy, the generator minimising log(1 - D(G(z))) (arXiv:1406.2661).

    Its gradient fades where the discriminator is sure that a sample is fake.

    Args:
        label_smoothing: as for `non_saturating`.
    """
    return Loss(_cross_entropy(label_smoothing), lambda real, fake: -softplus(fake).mean())


def least_squares(*, label_smoothing: float = 0.0) -> Loss:
    """Half the squared distance of the logits to 1 for real and 0 for fake samples, the generator
    drawing those of fake ones to 1 (arXiv:1611.04076, equation 9).

    Args:
        label_smoothing: as for `non_saturating`.
    """
    target = 1 - label_smoothing
    return Loss(
        lambda real, fake: (real - target).square().mean() / 2 + fake.square().mean() / 2,
        lambda real, fake: (fake - 1).square().mean() / 2,
    )


def wasserstein() -> Loss:
    """The difference of the mean logits (arXiv:1701.07875).

    It bounds a Wasserstein distance where the discriminator is kept Lipschitz: by a penalty, by
    clipped weights or by spectral norm.
    """
    return Loss(lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean())


def hinge() -> Loss:
    """Logits beyond 1 for real and below -1 for fake samples cost the discriminator nothing
    (arXiv:1705.02894); the generator raises those of fake ones without limit."""
    return Loss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    )


def relativistic() -> Loss:
    """RpGAN: the logistic loss of the difference between a real and a fake sample's logits, the
    two paired by their place in the batch (arXiv:1807.00734; with r1r2, arXiv:2501.05441)."""
    return Loss(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        pairs=True,
    )


def _cross_entropy(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(real: Tensor, fake: Tensor) -> Tensor:
        # softplus(-x) + s x is the cross-entropy of the target 1 - s.
        return softplus(-real).mean() + label_smoothing * real.mean() + softplus(fake).mean()

    return loss
