"""GAN losses, as pure functions of the discriminator's logits.

Every function takes logits of shape (batch, 1), or (batch, 1, height, width) of patches, of any
sign and size, and returns a scalar.
Settings may also be scalar tensors. The logistic losses use softplus: it keeps its gradient where a
sigmoid followed by a logarithm loses it (beyond a logit of about 17 in float32).
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus

from gan.settings import Share, Stacking, Stateful, state_of

AS_TENSOR = Stacking.AS_TENSOR


class Loss(NamedTuple):
    """Functions that the two networks minimise, of the logits of real and of fake samples.

    A loss of another package may be any object with methods of these names. See `as_loss`.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    uses_real_logits: bool = False
    """The generator's loss depends on the logits of real samples."""
    stackable: bool = False
    """Both are pure functions of tensors, and so is the function that makes the loss: they look at
    no value, draw nothing and keep nothing. Many runs may then be trained in one step."""
    state: Stateful | None = None
    """The object that keeps what the functions remember from one step to the next."""


def as_loss(made: Any) -> Loss:
    """Return a loss, or an object that has the methods of one, as a `Loss`.

    An object may also have `uses_real_logits` and `stackable`. If it has `state_dict` and
    `load_state_dict`, it is its own state.

    Raises:
        TypeError: the object has no functions `discriminator` and `generator`.
    """
    if isinstance(made, Loss):
        return made
    discriminator, generator = (getattr(made, n, None) for n in ("discriminator", "generator"))
    if not (callable(discriminator) and callable(generator)):
        raise TypeError(
            f"returned {type(made).__name__}, not a gan.losses.Loss or an object with functions "
            "`discriminator` and `generator` of real and fake logits"
        )
    return Loss(
        discriminator,
        generator,
        uses_real_logits=getattr(made, "uses_real_logits", False),
        stackable=getattr(made, "stackable", False),
        state=state_of(made),
    )


def non_saturating(*, label_smoothing: Annotated[Share, AS_TENSOR] = 0.0) -> Loss:
    """Binary cross-entropy; the generator maximises log D(G(z)) (arXiv:1406.2661).

    Args:
        label_smoothing: the discriminator's target for real samples is 1 minus this. Fake samples
            keep the target 0 (one-sided, arXiv:1606.03498).
    """
    return Loss(
        _cross_entropy(label_smoothing), lambda real, fake: softplus(-fake).mean(), stackable=True
    )


def minimax(*, label_smoothing: Annotated[Share, AS_TENSOR] = 0.0) -> Loss:
    """Binary cross-entropy; the generator minimises log(1 - D(G(z))) (arXiv:1406.2661).

    The gradient fades where the discriminator is sure that a sample is fake.

    Args:
        label_smoothing: see `non_saturating`.
    """
    return Loss(
        _cross_entropy(label_smoothing), lambda real, fake: -softplus(fake).mean(), stackable=True
    )


def least_squares(*, label_smoothing: Annotated[Share, AS_TENSOR] = 0.0) -> Loss:
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
        stackable=True,
    )


def wasserstein() -> Loss:
    """Difference of the mean logits (arXiv:1701.07875).

    It bounds a Wasserstein distance if a penalty, clipped weights or spectral norm keeps the
    discriminator Lipschitz.
    """
    return Loss(
        lambda real, fake: fake.mean() - real.mean(),
        lambda real, fake: -fake.mean(),
        stackable=True,
    )


def hinge() -> Loss:
    """Hinge loss (arXiv:1705.02894).

    Logits above 1 for real and below -1 for fake samples cost the discriminator nothing. The
    generator raises the logits of fake samples without limit.
    """
    return Loss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
        stackable=True,
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
        stackable=True,
    )


def _cross_entropy(label_smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(real: Tensor, fake: Tensor) -> Tensor:
        # softplus(-x) + s x is the cross-entropy of the target 1 - s.
        return softplus(-real).mean() + label_smoothing * real.mean() + softplus(fake).mean()

    return loss
