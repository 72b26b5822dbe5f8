"""A hinge loss with soft corners."""

from typing import Annotated

from annotated_types import Gt
from torch.nn.functional import softplus

from gan.losses import Loss


def soft_hinge(*, sharpness: Annotated[float, Gt(0)]) -> Loss:
    """Return the hinge loss with softplus(sharpness * x) / sharpness in place of relu(x)."""

    def soft(x):
        return softplus(sharpness * x) / sharpness

    return Loss(
        lambda real, fake: soft(1 - real).mean() + soft(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    )
