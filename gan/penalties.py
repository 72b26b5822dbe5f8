"""Penalties that keep a discriminator smooth: terms of its loss, and limits on its weights.

A gradient penalty consists of the points at which it looks at the discriminator's gradient, and
of the cost of a gradient there; `gradient_penalty` puts the two together. Means are over the
batch. The norm of a gradient is that of one sample, whatever its shape.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""Network as a function from samples (batch, ...) to logits (batch, 1)."""


class Penalty(NamedTuple):
    """A gradient penalty, with `points` and `cost`, or a limit on weights, with `clip`.

    All are functions of tensors alone; a setting may also be a scalar tensor.
    """

    points: Callable[..., tuple[Tensor, ...]] | None = None
    """Sets of points (batch, ...), as a function of real samples, fake ones and random numbers."""
    cost: Callable[[Tensor], Tensor] | None = None
    """Scalar cost, as a function of the squared gradient norms (batch,) at one set of points."""
    draw: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """Random numbers for `points`, as a function of real samples; None if it needs none."""
    clip: Callable[[Tensor], Tensor] | None = None
    """New value of a weight of the discriminator, as a function of its value after an update."""


def gradient_penalty(
    penalty: Penalty,
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    random_numbers: Sequence[Tensor] = (),
    *,
    batch_dim: int = 0,
) -> Tensor:
    """Return the value of a penalty, which can be differentiated with respect to the weights.

    Args:
        penalty: a penalty with `points` and `cost`.
        discriminator: the network, as a function of samples alone.
        real: real samples (batch, ...).
        fake: fake samples (batch, ...).
        random_numbers: the result of `penalty.draw`, if it has one.
        batch_dim: dimension of the batch. It is not 0 if the samples of many runs are stacked; the
            functions of the penalty then take and return tensors of all runs.

    Returns:
        A scalar for each run.
    """
    assert penalty.points
    assert penalty.cost
    costs = []
    for points in penalty.points(real, fake, *random_numbers):
        points = points.detach().requires_grad_()
        logits = discriminator(points).sum()
        (gradient,) = torch.autograd.grad(logits, points, create_graph=True)
        squared = gradient.square().flatten(batch_dim + 1).sum(-1)
        costs.append(penalty.cost(squared))
    total: Tensor = sum(costs[1:], costs[0])
    return total


def r1(*, gamma: float) -> Penalty:
    """R1: gamma / 2 times the mean squared gradient norm at real samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (real,), _zero_centred(gamma))


def r2(*, gamma: float) -> Penalty:
    """R2: gamma / 2 times the mean squared gradient norm at fake samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (fake,), _zero_centred(gamma))


def r1r2(*, gamma: float) -> Penalty:
    """Sum of `r1` and `r2` (arXiv:2501.05441)."""
    return Penalty(lambda real, fake: (real, fake), _zero_centred(gamma))


def wgan_gp(*, weight: float) -> Penalty:
    """Gradient penalty of WGAN-GP (arXiv:1704.00028).

    It is weight times the mean squared distance of the gradient norm to 1, at random points
    between real and fake samples.
    """

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        shape = len(real), *[1] * (real.dim() - 1)
        return torch.rand(shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, share: (torch.lerp(real, fake, share),), _one_centred(weight), draw
    )


def dragan(*, weight: float) -> Penalty:
    """Gradient penalty of DRAGAN (arXiv:1705.07215).

    It is weight times the mean squared distance of the gradient norm to 1, at points near real
    samples. As in the authors' code, the points are real samples plus half the batch's standard
    deviation times uniform noise from 0 to 1.
    """

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        return torch.rand(real.shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, noise: (real + 0.5 * real.std() * noise,), _one_centred(weight), draw
    )


def weight_clip(*, limit: float) -> Penalty:
    """Weight clipping: every weight stays between -limit and limit (arXiv:1701.07875)."""
    return Penalty(clip=lambda weight: weight.clamp(-limit, limit))


def _zero_centred(gamma: float) -> Callable[[Tensor], Tensor]:
    return lambda squared: gamma / 2 * squared.mean()


def _one_centred(weight: float) -> Callable[[Tensor], Tensor]:
    # The root has no derivative at 0. Without 1e-12 a dead network would make every weight NaN.
    return lambda squared: weight * (squared.add(1e-12).sqrt() - 1).square().mean()
