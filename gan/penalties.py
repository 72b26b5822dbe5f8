"""Penalties added to the discriminator's loss, as functions of the discriminator itself."""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""From images (batch, channels, height, width) to logits (batch, 1)."""


def r1(discriminator: Discriminator, real: Tensor, fake: Tensor, *, gamma: float) -> Tensor:
    """gamma / 2 times the mean squared gradient norm of the logits at real images
    (arXiv:1801.04406).

    Args:
        real: images (batch, channels, height, width); `fake` is not looked at.

    Returns:
        A scalar that can be differentiated again, with respect to the discriminator's weights.
    """
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gamma / 2 * gradient.square().flatten(1).sum(1).mean()
