"""GAN losses, as pure functions of the discriminator's logits.

Every function takes logits of shape (batch, 1), any sign and size, and returns a scalar.
The logistic ones are written with softplus, which keeps its gradient where a sigmoid followed
by a logarithm has lost it (beyond a logit of about 17 in float32).
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import softplus


class Loss(NamedTuple):
    """What each network minimises."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Of the logits of real and of fake images."""
    generator: Callable[[Tensor], Tensor]
    """Of the logits of fake images."""


def non_saturating() -> Loss:
    """Binary cross-entropy, the generator maximising log D(G(z)) (arXiv:1406.2661)."""
    return Loss(_cross_entropy, lambda fake: softplus(-fake).mean())


def minimax() -> Loss:
    """Binary cross-entropy, the generator minimising log(1 - D(G(z))) (arXiv:1406.2661).

    Its gradient fades where the discriminator is sure that an image is fake.
    """
    return Loss(_cross_entropy, lambda fake: -softplus(fake).mean())


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean() + softplus(fake).mean()
