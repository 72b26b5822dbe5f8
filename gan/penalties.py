"""What keeps a discriminator smooth: terms of its loss, and limits on its weights.

A gradient penalty says at which points it looks at the discriminator's gradient and what that
costs there; `term` puts the two together. Means are over the batch, and a gradient's norm is that
of one sample, whatever its shape.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
"""From samples (batch, ...) to logits (batch, 1)."""


class Penalty(NamedTuple):
    """Either `points` and `cost`, or `project`. All are functions of tensors alone; a setting may
    be a tensor (), too."""

    points: Callable[..., tuple[Tensor, ...]] | None = None
    """Sets of points (batch, ...), of real and fake samples and of what was drawn."""
    cost: Callable[[Tensor], Tensor] | None = None
    """A scalar, of the squared norms (batch,) of the gradients at one set of points."""
    draw: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """The random numbers that `points` needs for such samples, where it needs any."""
    project: Callable[[Tensor], Tensor] | None = None
    """What becomes of a weight of the discriminator's after its update."""


def term(
    penalty: Penalty,
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    drawn: Sequence[Tensor] = (),
    *,
    dim: int = 0,
) -> Tensor:
    """A gradient penalty, which can be differentiated again with respect to the weights.

    Args:
        drawn: what `penalty.draw` gave, if it has one.
        dim: of the batch; not 0 where samples of many runs come together, and the penalty's
            functions take and give those of all.

    Returns:
        A scalar for each run.
    """
    assert penalty.points
    assert penalty.cost
    costs = []
    for points in penalty.points(real, fake, *drawn):
        points = points.detach().requires_grad_()
        logits = discriminator(points).sum()
        (gradient,) = torch.autograd.grad(logits, points, create_graph=True)
        squared = gradient.square().flatten(dim + 1).sum(-1)
        costs.append(penalty.cost(squared))
    total: Tensor = sum(costs[1:], costs[0])
    return total


def r1(*, gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient norm at real samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (real,), _zero_centred(gamma))


def r2(*, gamma: float) -> Penalty:
    """gamma / 2 times the mean squared gradient norm at fake samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (fake,), _zero_centred(gamma))


def r1r2(*, gamma: float) -> Penalty:
    """The sum of `r1` and `r2` (arXiv:2501.05441)."""
    return Penalty(lambda real, fake: (real, fake), _zero_centred(gamma))


def wgan_gp(*, weight: float) -> Penalty:
    """weight times the mean squared distance of the gradient norm to 1, at random points between
    real and fake samples (arXiv:1704.00028)."""

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        shape = len(real), *[1] * (real.dim() - 1)
        return torch.rand(shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, part: (torch.lerp(real, fake, part),), _one_centred(weight), draw
    )


def dragan(*, weight: float) -> Penalty:
    """weight times the mean squared distance of the gradient norm to 1, around real samples
    (arXiv:1705.07215).

    As in its authors' code the points are real samples plus half the batch's standard
    deviation times uniform noise from 0 to 1.
    """

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        return torch.rand(real.shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, away: (real + 0.5 * real.std() * away,), _one_centred(weight), draw
    )


def weight_clip(*, limit: float) -> Penalty:
    """Every weight is put back between -limit and limit (arXiv:1701.07875)."""
    return Penalty(project=lambda weight: weight.clamp(-limit, limit))


def _zero_centred(gamma: float) -> Callable[[Tensor], Tensor]:
    return lambda squared: gamma / 2 * squared.mean()


def _one_centred(weight: float) -> Callable[[Tensor], Tensor]:
    # The root has no derivative at 0, where a dead network would make every weight NaN.
    return lambda squared: weight * (squared.add(1e-12).sqrt() - 1).square().mean()
