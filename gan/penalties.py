"""Penalties that keep a discriminator smooth: terms of its loss, and limits on its weights.

A gradient penalty consists of the points at which it looks at the discriminator's gradient, and
of the cost of a gradient there; `gradient_penalty` puts the two together. Means are over the
batch. The norm of a gradient is that of one sample, whatever its shape. Any other term of the
discriminator's loss is a function of the discriminator, the samples and their logits.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from gan.arithmetic import like
from gan.errors import UserError
from gan.settings import NonNegative, Positive, Stacking, Stateful, state_of

AS_TENSOR = Stacking.AS_TENSOR

Network = Callable[[Tensor], Tensor]
"""A network as a function of samples (batch, ...) alone."""


class Discriminator(NamedTuple):
    """The discriminator as a penalty sees it: `logits = discriminator(samples)`."""

    logits: Network
    """Maps samples (batch, ...) to logits (batch, 1), or (batch, 1, height, width) of patches."""
    features: Network
    """Maps samples (batch, ...) to the inputs (batch, features) of the last layer."""

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the logits of samples."""
        return self.logits(samples)


class Penalty(NamedTuple):
    """A gradient penalty, with `points` and `cost`, another `term`, or a limit on weights, `clip`.

    A penalty of another package may be any object with methods of these names. See `as_penalty`.
    """

    points: Callable[..., tuple[Tensor, ...]] | None = None
    """Sets of points (batch, ...), as a function of real samples, fake ones and random numbers."""
    cost: Callable[[Tensor], Tensor] | None = None
    """Scalar cost, as a function of the squared gradient norms (batch,) at one set of points."""
    term: Callable[..., Tensor] | None = None
    """Scalar that is added to the discriminator's loss, as a function of the `Discriminator`, real
    samples, fake ones, their logits, and random numbers. Samples are as the discriminator sees
    them: augmented and packed."""
    draw: Callable[[Tensor, torch.Generator], Tensor | tuple[Tensor, ...]] | None = None
    """Random numbers for `points` or `term`, as a function of real samples; None if it needs
    none."""
    clip: Callable[[Tensor], Tensor] | None = None
    """New value of a weight of the discriminator, as a function of its value after an update."""
    uses_features: bool = False
    """The term calls `discriminator.features`."""
    stackable: bool = False
    """All but `draw` are pure functions of tensors, where a setting may be a scalar tensor: they
    look at no value, draw nothing and keep nothing. Many runs may then be trained in one step."""
    state: Stateful | None = None
    """The object that keeps what the functions remember from one step to the next."""


class Consistency(NamedTuple):
    """Consistency regularization: the discriminator is to see no change in augmented images.

    For each of real and fake images, a term of the discriminator's loss is a weight times the mean
    squared difference of the logits before and after the change (arXiv:2002.04724). Without fake
    images this is arXiv:1910.12027.
    """

    names: tuple[str, ...]
    """The augmentations that make the change."""
    weights: tuple[float, float]
    """The weights of the terms of real and of fake images."""


def as_penalty(made: Any) -> Penalty:
    """Return a penalty, or an object that has some of the methods of one, as a `Penalty`.

    If an object has `state_dict` and `load_state_dict`, it is its own state.

    Raises:
        TypeError: the object has neither `points` and `cost`, nor `term`, nor `clip`.
    """
    found: dict[str, Any] = {name: getattr(made, name, None) for name in Penalty._fields}
    flags = {name: bool(found[name]) for name in ("uses_features", "stackable")}
    # An object may keep a setting under the name of a function.
    found = {name: value if callable(value) else None for name, value in found.items()}
    if not (found["points"] and found["cost"]) and not found["term"] and not found["clip"]:
        raise TypeError(
            f"returned {type(made).__name__}, not a gan.penalties.Penalty or an object with "
            "functions `points` and `cost`, `term`, or `clip`"
        )
    if isinstance(made, Penalty):
        return made
    return Penalty(**found | flags | {"state": state_of(made)})


def gradient_penalty(
    penalty: Penalty,
    discriminator: Network,
    real: Tensor,
    fake: Tensor,
    random_numbers: Sequence[Tensor] = (),
    *,
    batch_dim: int = 0,
    scale: Tensor | None = None,
) -> Tensor:
    """Return the value of a penalty, which can be differentiated with respect to the weights.

    Args:
        penalty: a penalty with `points` and `cost`.
        discriminator: the network, as a function of samples alone.
        real: real samples (batch, ...) as the discriminator sees them: augmented, if the run
            augments them. The code of ADA and of R3GAN differentiates by the samples before that.
        fake: fake samples (batch, ...), in the same way.
        random_numbers: the result of `penalty.draw`, if it has one.
        batch_dim: dimension of the batch. It is not 0 if the samples of many runs are stacked; the
            functions of the penalty then take and return tensors of all runs.
        scale: the state of the loss scale, see `gan.arithmetic.new_loss_scale`. The gradients at
            the points are computed with this scale as well, and divided by it. None computes them
            as they are.

    Returns:
        A scalar for each run.
    """
    assert penalty.points
    assert penalty.cost
    costs = []
    for points in penalty.points(real, fake, *random_numbers):
        points = points.detach().requires_grad_()
        # Only this kind of attention can be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH):
            logits = discriminator(points)
            factor = None
            if scale is not None:
                # The whole scale is meant for a mean over the batch.
                factor = scale.select(-1, 0).clone() / points.shape[batch_dim]
                logits = logits * like(factor, logits)
            total_logits = logits.sum()
        (gradient,) = torch.autograd.grad(total_logits, points, create_graph=True)
        gradient = gradient if factor is None else gradient / like(factor, gradient)
        squared = gradient.square().flatten(batch_dim + 1).sum(-1)
        costs.append(penalty.cost(squared))
    total: Tensor = sum(costs[1:], costs[0])
    return require_scalar(total, "penalty", batch_dim)


def require_scalar(value: Tensor, group: str, dim: int = 0) -> Tensor:
    """Return a value that is a scalar for each run. Other shapes would be summed unnoticed.

    Args:
        value: the value of a loss or of a penalty.
        group: the name of its config group, for the error.
        dim: 1 if the value is of many runs, else 0.

    Raises:
        UserError: it is no tensor, or has another shape.
    """
    if not isinstance(value, Tensor):
        raise UserError(f"{group}: must return a tensor, not {type(value).__name__}")
    if value.dim() != dim:
        raise UserError(f"{group}: must return a scalar, not values {tuple(value.shape[dim:])}")
    return value


def r1(*, gamma: Annotated[NonNegative, AS_TENSOR]) -> Penalty:
    """R1: gamma / 2 times the mean squared gradient norm at real samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (real,), _zero_centred(gamma), stackable=True)


def r2(*, gamma: Annotated[NonNegative, AS_TENSOR]) -> Penalty:
    """R2: gamma / 2 times the mean squared gradient norm at fake samples (arXiv:1801.04406)."""
    return Penalty(lambda real, fake: (fake,), _zero_centred(gamma), stackable=True)


def r1r2(*, gamma: Annotated[NonNegative, AS_TENSOR]) -> Penalty:
    """Sum of `r1` and `r2` (arXiv:2501.05441)."""
    return Penalty(lambda real, fake: (real, fake), _zero_centred(gamma), stackable=True)


def wgan_gp(*, weight: Annotated[NonNegative, AS_TENSOR]) -> Penalty:
    """Gradient penalty of WGAN-GP (arXiv:1704.00028).

    It is weight times the mean squared distance of the gradient norm to 1, at random points
    between real and fake samples.
    """

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        shape = len(real), *[1] * (real.dim() - 1)
        return torch.rand(shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, share: (torch.lerp(real, fake, share),),
        _one_centred(weight),
        draw=draw,
        stackable=True,
    )


def dragan(*, weight: Annotated[NonNegative, AS_TENSOR]) -> Penalty:
    """Gradient penalty of DRAGAN (arXiv:1705.07215).

    It is weight times the mean squared distance of the gradient norm to 1, at points near real
    samples. The points are real samples plus half the batch's standard deviation times uniform
    noise from 0 to 1. The authors' code goes a random share of that way for each sample, so its
    points are half as far from the samples on average.
    """

    def draw(real: Tensor, noise: torch.Generator) -> Tensor:
        return torch.rand(real.shape, generator=noise, device=real.device, dtype=real.dtype)

    return Penalty(
        lambda real, fake, noise: (real + 0.5 * real.std() * noise,),
        _one_centred(weight),
        draw=draw,
        stackable=True,
    )


def weight_clip(*, limit: Annotated[Positive, AS_TENSOR]) -> Penalty:
    """Weight clipping: every weight stays between -limit and limit (arXiv:1701.07875)."""
    return Penalty(clip=lambda weight: weight.clamp(-limit, limit), stackable=True)


def _zero_centred(gamma: float) -> Callable[[Tensor], Tensor]:
    return lambda squared: gamma / 2 * squared.mean()


def _one_centred(weight: float) -> Callable[[Tensor], Tensor]:
    # The root has no derivative at 0. Without 1e-12 a dead network would make every weight NaN.
    return lambda squared: weight * (squared.add(1e-12).sqrt() - 1).square().mean()
