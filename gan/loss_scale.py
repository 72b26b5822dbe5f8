"""Loss scaling: gradients in float16 are those of a loss times a scale (arXiv:1710.03740).

Small gradients would be zero in float16. The scale is doubled now and then, and halved where a
gradient is not finite; such a step leaves the weights as they are. Everything is a tensor, so that
steps are captured, stacked and resumed like others.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
STEPS_TO_DOUBLE = 2000
"""Updates in a row with finite gradients after which the scale is doubled."""
LOWEST_SCALE = 2.0**-16
"""A scale below which no scale can make the gradients finite."""


def start(device: torch.device) -> Tensor:
    """Return the state of a loss scale (2,): the scale, and the finite updates since its change."""
    return torch.tensor([FIRST_SCALE, 0.0], device=device)


def unscale(
    gradients: Sequence[Tensor | None], state: Tensor
) -> tuple[list[Tensor | None], Tensor]:
    """Divide gradients by the scale, and change the scale in place.

    Args:
        gradients: gradients of a loss times the scale, one for each weight or None.
        state: (2,), or (runs, 2) where the gradients are of many runs.

    Returns:
        The gradients, all zero for a run in which one is not finite; and True for each run whose
        gradients are all finite, () or (runs,).
    """
    scale, steps = state.unbind(-1)
    given = [gradient for gradient in gradients if gradient is not None]
    rows = [one.reshape((*scale.shape, -1)) for one in given]
    finite = torch.stack([row.isfinite().all(-1) for row in rows]).all(0)
    unscaled = [
        None if one is None else (one / like(scale, one)).where(like(finite, one), 0)
        for one in gradients
    ]
    steps = (steps + 1).where(finite, 0)
    is_doubled = steps >= STEPS_TO_DOUBLE
    scale = (scale * (1.0 + is_doubled)).where(finite, scale / 2)
    state.copy_(torch.stack([scale, steps.where(~is_doubled, 0)], -1))
    return unscaled, finite


def like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return one value for each run (runs,), or one (), in a shape that broadcasts to a tensor."""
    return value.reshape((*value.shape, *[1] * (tensor.dim() - value.dim())))
