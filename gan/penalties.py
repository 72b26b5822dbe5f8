"""What keeps a discriminator smooth: terms of its loss, and limits on its weights.

A gradient penalty takes the discriminator as a function of samples alone and returns a scalar
that can be differentiated again with respect to the weights. Means are over the batch, and a
gradient's norm is that of one sample, whatever its shape.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Discriminator = Callable[[Tensor], Tensor]
"""From samples (batch, ...) to logits (batch, 1)."""


class Penalty(NamedTuple):
    """One of the two is None."""

    loss: Callable[[Discriminator, Tensor, Tensor, torch.Generator], Tensor] | None
    """Of the discriminator, real and fake samples, and the source of random numbers."""
    project: Callable[[nn.Module], None] | None
    """Changes the discriminator's weights, after its update."""


def r1(*, gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient norm at real samples (arXiv:1801.04406)."""
    return Penalty(lambda d, real, fake, noise: gamma / 2 * _squared_norms(d, real).mean(), None)


def r2(*, gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient norm at fake samples (arXiv:1801.04406)."""
    return Penalty(lambda d, real, fake, noise: gamma / 2 * _squared_norms(d, fake).mean(), None)


def r1r2(*, gamma: float) -> Penalty:
    """The sum of `r1` and `r2` (arXiv:2501.05441)."""

    def loss(d: Discriminator, real: Tensor, fake: Tensor, noise: torch.Generator) -> Tensor:
        return gamma / 2 * (_squared_norms(d, real).mean() + _squared_norms(d, fake).mean())

    return Penalty(loss, None)


def wgan_gp(*, weight: float) -> Penalty:
    """weight times the mean squared distance of the gradient norm to 1, at random points between
    real and fake samples (arXiv:1704.00028)."""

    def loss(d: Discriminator, real: Tensor, fake: Tensor, noise: torch.Generator) -> Tensor:
        part = torch.rand(len(real), generator=noise, device=real.device, dtype=real.dtype)
        points = torch.lerp(real, fake, part.view(-1, *[1] * (real.dim() - 1)))
        return weight * (_norms(d, points) - 1).square().mean()

    return Penalty(loss, None)


def dragan(*, weight: float) -> Penalty:
    """weight times the mean squared distance of the gradient norm to 1, around real samples
    (arXiv:1705.07215).

    As in its authors' code the points are real samples plus half the batch's standard
    deviation times uniform noise from 0 to 1.
    """

    def loss(d: Discriminator, real: Tensor, fake: Tensor, noise: torch.Generator) -> Tensor:
        away = torch.rand(real.shape, generator=noise, device=real.device, dtype=real.dtype)
        points = real + 0.5 * real.std() * away
        return weight * (_norms(d, points) - 1).square().mean()

    return Penalty(loss, None)


def weight_clip(*, limit: float) -> Penalty:
    """Every weight is put back between -limit and limit (arXiv:1701.07875)."""

    @torch.no_grad()
    def project(discriminator: nn.Module) -> None:
        for weight in discriminator.parameters():
            weight.clamp_(-limit, limit)

    return Penalty(None, project)


def _squared_norms(discriminator: Discriminator, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    logits = discriminator(points).sum()
    (gradient,) = torch.autograd.grad(logits, points, create_graph=True)
    return gradient.square().flatten(1).sum(1)


def _norms(discriminator: Discriminator, points: Tensor) -> Tensor:
    # The root has no derivative at 0, where a dead network would make every weight NaN.
    return _squared_norms(discriminator, points).add(1e-12).sqrt()
