"""GAN losses, as pure functions of the discriminator's logits.

Every function takes logits of shape (batch, 1), of any sign and size, and returns a scalar.
Settings may also be scalar tensors. The logistic losses use softplus: it keeps its gradient where a
sigmoid followed by a logarithm loses it (beyond a logit of about 17 in float32).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus


class Loss(NamedTuple):
    """Functions that the two networks minimise, of the logits of real and of fake samples."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    uses_real_logits: bool = False
    """The generator's loss depends on the logits of real samples."""


def non_saturating(*, label_smoothing: float = 0.0) -> Loss:
    """Binary cross-entropy; the generator maximises log D(G(z)) (arXiv:1406.2661).

    Args:
        label_smoothing: the discriminator's target for real samples is 1 minus this. Fake samples
            keep the target 0 (one-sided, arXiv:1606.03498).
    """
    return Loss(_cross_entropy(label_smoothing), lambda real, fake: softplus(-fake).mean())


def minimax(*, label_smoothing: float = 0.0) -> Loss:
    """Binary cross-entropy; the generator minimises log(1 - D(G(z))) (arXiv:1406.2661).

    The gradient fades where the discriminator is sure that a sample is fake.

    Args:
        label_smoothing: see `non_saturating`.
    """
    return Loss(_cross_entropy(label_smoothing), lambda real, fake: -softplus(fake).mean())


def least_squares(*, label_smoothing: float = 0.0) -> Loss:
    """Half the squared distance of the logits to their targets (arXiv:1611.04076, equation 9).

    The discriminator's targets are 1 for real and 0 for fake samples. The generator's target for
    fake samples is 1.

    Args:
        label_smoothing: see `non_saturating`.
    """
    target = 1 - label_smoothing
    return Loss(
        lambda real, fake: (real - target).square().mean() / 2 + fake.square().mean() / 2,
        lambda real, fake: (fake - 1).square().mean() / 2,
    )


def wasserstein() -> Loss:
    """Difference of the mean logits (arXiv:1701.07875).

    It bounds a Wasserstein distance if a penalty, clipped weights or spectral norm keeps the
    discriminator Lipschitz.
    """
    return Loss(lambda real, fake: fake.mean() - real.mean(), lambda real, fake: -fake.mean())


def hinge() -> Loss:
    """Hinge loss (arXiv:1705.02894).

    Logits above 1 for real and below -1 for fake samples cost the discriminator nothing. The
    generator raises the logits of fake samples without limit.
    """
    return Loss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    )


def relativistic() -> Loss:
    """RpGAN: logistic loss of the difference between the logits of a real and a fake sample.

    Each real sample is compared with the fake one at the same place in the batch
    (arXiv:1807.00734; with r1r2, arXiv:2501.05441).
    """
    return Loss(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        uses_real_logits=True,
    )


def _cross_entropy(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(real: Tensor, fake: Tensor) -> Tensor:
        # softplus(-x) + s x is the cross-entropy of the target 1 - s.
        return softplus(-real).mean() + label_smoothing * real.mean() + softplus(fake).mean()

    return loss
