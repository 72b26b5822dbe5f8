"""Networks, losses and penalties as a package of someone else may have them."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan.augment import augment, draw
from gan.losses import Loss, hinge, non_saturating
from gan.penalties import Discriminator, Penalty, r1


class Flat(nn.Module):
    """Layers between samples of any shape; they say what may be done with them."""

    def __init__(self, layers: nn.Module, shape: tuple[int, ...], **declared: bool):
        super().__init__()
        self.layers = layers
        self.shape = shape
        for name, value in declared.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the layers in the wanted shape."""
        outputs: Tensor = self.layers(x.flatten(1))
        return outputs.reshape(len(x), *self.shape)


class RMSNorm(nn.Module):
    """Divide by the root of the mean square over the width (arXiv:1910.07467)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, normalized in single precision as many libraries do it."""
        x = x.float()
        scale = x.square().mean(-1, keepdim=True).add(1e-6).rsqrt()
        normalized: Tensor = x * scale * self.weight.float()
        return normalized


class Scaled(nn.Module):
    """Divide by the root of the width, which is a number of Python."""

    def __init__(self, width: int):
        super().__init__()
        self.root = width**0.5

    def forward(self, x: Tensor) -> Tensor:
        """Return x / sqrt(width)."""
        scaled: Tensor = x / self.root
        return scaled


class Attention(nn.Module):
    """Attention over a sequence of four parts of the features, with a residual path."""

    def __init__(self, width: int):
        super().__init__()
        self.inner = nn.MultiheadAttention(width // 4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what its parts see in each other."""
        parts = x.unflatten(1, (4, -1))
        seen: Tensor = self.inner(parts, parts, parts, need_weights=False)[0]
        both: Tensor = parts + seen
        return both.flatten(1)


class Sigmoid(nn.Module):
    """An activation that does not keep zero."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return sigmoid(x)."""
        return x.sigmoid()


class Dropout(nn.Dropout):
    """Dropout, which draws from the global random state."""

    def __init__(self, width: int):
        super().__init__(0.2)


LAYERS: dict[str, type[nn.Module]] = {
    "rms": RMSNorm,
    "scaled": Scaled,
    "attention": Attention,
    "sigmoid": Sigmoid,
    "dropout": Dropout,
    "batch": nn.BatchNorm1d,
}


def pair(
    *,
    image_shape: tuple[int, ...],
    latent_dim: int,
    hidden_dim: int,
    layer: str,
    stackable: bool = False,
    paddable: bool = False,
    **_: Any,
) -> tuple[nn.Module, nn.Module]:
    """Make two networks with one hidden layer each."""
    values = torch.Size(image_shape).numel()
    declared = {"stackable": stackable, "paddable": paddable}

    def layers(inputs: int, outputs: int) -> nn.Sequential:
        # Before a batch norm, the gradient of a bias would consist of rounding errors.
        middle = (
            nn.Linear(inputs, hidden_dim, bias=layer != "batch"),
            LAYERS[layer](hidden_dim),
            nn.ReLU(),
        )
        return nn.Sequential(*middle, nn.Linear(hidden_dim, outputs))

    return (
        Flat(layers(latent_dim, values), image_shape, **declared),
        Flat(layers(values, 1), (1,), **declared),
    )


def counting_loss(*, stackable: bool = False) -> Loss:
    """Make a loss that counts its calls in a variable of its closure."""
    right, calls = non_saturating(), 0

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return right.discriminator(real, fake) * (1 + 0.1 * calls)

    return Loss(discriminator, right.generator, stackable=stackable)


def appending_loss() -> Loss:
    """Make a loss that keeps all logits in a list."""
    right, kept = non_saturating(), list[Tensor]()

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        kept.append(real.detach().mean())
        return right.discriminator(real, fake) + 0 * torch.stack(kept).mean()

    return right._replace(discriminator=discriminator, stackable=False)


class Average:
    """An object with methods for the loss, which keeps an average of logits as an attribute."""

    uses_real_logits = True

    def __init__(self) -> None:
        self.mean: Tensor | float = 0.0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the hinge loss of logits without their average."""
        self.mean = 0.9 * self.mean + 0.1 * real.detach().mean()
        return hinge().discriminator(real - self.mean, fake - self.mean)

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the difference of the mean logits."""
        return real.mean() - fake.mean()


class SavedAverage(Average):
    """The same loss, whose state can be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an average."""
        self.mean = state["mean"]


class HalfSavedAverage(SavedAverage):
    """The same loss, which forgets to save its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the hinge loss of logits without their average."""
        self.calls += 1
        return super().discriminator(real, fake)


class ModuleLoss(nn.Module):
    """A loss that is a module: a random factor, and a buffer that changes."""

    mean: Tensor
    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("factor", torch.rand(()))

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return a hinge loss."""
        self.mean.mul_(0.9).add_(0.1 * real.detach().mean())
        return hinge().discriminator(real - self.mean, fake * (1 + self.factor))

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return minus the mean logit."""
        return -fake.mean()


def bound_loss() -> Loss:
    """Make a loss of bound methods, whose object keeps a state that is not saved."""
    average = Average()
    return Loss(average.discriminator, average.generator)


def no_loss() -> object:
    """Return something that is no loss."""
    return object()


def spread_loss(*, weight: float, stackable: bool = True) -> Loss:
    """Make a loss that mixes the samples of a batch and looks at shapes."""
    right = non_saturating()

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        spread = (real - real.mean(0)).square().sum() / real.shape[0] / real.shape[-1]
        sorted_logits = fake.flatten().sort().values
        return right.discriminator(real, fake) + weight * (spread + sorted_logits[-1].square())

    return Loss(discriminator, right.generator, stackable=stackable)


def peeking_loss() -> Loss:
    """Make a loss that looks at a value, although it says that it does not."""
    right = non_saturating()

    def discriminator(real: Tensor, fake: Tensor) -> Tensor:
        return right.discriminator(real, fake) * (2.0 if real.mean().item() > 0 else 1.0)

    return Loss(discriminator, right.generator, stackable=True)


def unreduced_loss() -> Loss:
    """Make a loss that forgets to take the mean over the batch."""
    return Loss(lambda real, fake: fake - real, lambda real, fake: -fake.mean())


def consistency(*, weight: float) -> Penalty:
    """Consistency of logits under augmentation of real samples (CR-GAN, arXiv:1910.12027)."""

    def term(
        discriminator: Discriminator,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
        *numbers: Tensor,
    ) -> Tensor:
        changed = discriminator(augment(real, ["translation"], numbers))
        return weight * (real_logits - changed).square().mean()

    return Penalty(
        term=term,
        draw=lambda real, noise: draw(real.shape, ["translation"], noise),
        stackable=True,
    )


def feature_consistency(*, weight: float) -> Penalty:
    """Consistency of the features of real samples under noise."""

    def term(discriminator: Discriminator, real: Tensor, *given: Tensor) -> Tensor:
        *_, noise = given
        changes = discriminator.features(real) - discriminator.features(real + 0.1 * noise)
        return weight * changes.square().mean()

    return Penalty(
        term=term,
        draw=lambda real, noise: torch.randn(real.shape, generator=noise, device=real.device),
        uses_features=True,
        stackable=True,
    )


class LeCam:
    """LeCam regularization, by averages of the logits (arXiv:2104.03310)."""

    def __init__(self, *, weight: float, decay: float):
        self.weight, self.decay = weight, decay
        self.real: Tensor | float = 0.0
        self.fake: Tensor | float = 0.0

    def term(
        self,
        discriminator: Discriminator,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
    ) -> Tensor:
        """Return the cost, and move the averages."""
        for name, logits in (("real", real_logits), ("fake", fake_logits)):
            old = getattr(self, name)
            setattr(self, name, self.decay * old + (1 - self.decay) * logits.detach().mean())
        above = relu(real_logits - self.fake).square().mean()
        return self.weight * (above + relu(self.real - fake_logits).square().mean())

    def state_dict(self) -> dict[str, Any]:
        """Return both averages."""
        return {"real": self.real, "fake": self.fake}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from both averages."""
        self.real, self.fake = state["real"], state["fake"]


def transposed_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, ...]:
    """Return a generator whose samples have another shape than those of the data."""
    values = torch.Size(image_shape).numel()
    generator = nn.Sequential(nn.Linear(latent_dim, values), nn.Tanh())
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(values, 1))


def two_logits_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, ...]:
    """Return a discriminator with two logits for each sample."""
    values = torch.Size(image_shape).numel()
    generator = nn.Sequential(nn.Linear(latent_dim, values), nn.Unflatten(1, image_shape))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(values, 2))


def swapped_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, ...]:
    """Return the discriminator first."""
    generator, discriminator = two_logits_pair(image_shape=image_shape, latent_dim=latent_dim)
    return discriminator, generator


def one_network(*, image_shape: tuple[int, ...], latent_dim: int) -> nn.Module:
    """Return a generator alone."""
    return two_logits_pair(image_shape=image_shape, latent_dim=latent_dim)[0]


class Noisy(nn.Module):
    """Add noise, in training and in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x with noise from the global random state."""
        return x + torch.randn_like(x)


def noisy_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, ...]:
    """Return a generator that adds noise to its latents."""
    generator, discriminator = _linear_pair(image_shape, latent_dim)
    return nn.Sequential(Noisy(), generator), discriminator


class Paired(nn.Module):
    """Look at two samples at a time, and refuse a batch without an even number of them."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        if len(x) % 2:
            raise ValueError("not in pairs")
        return x


def paired_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, ...]:
    """Return a discriminator of an even number of samples."""
    generator, discriminator = _linear_pair(image_shape, latent_dim)
    return generator, nn.Sequential(Paired(), discriminator)


class FrozenFeatures(nn.Module):
    """Fixed random features (arXiv:2006.10739), as a part that was trained elsewhere would be."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        directions = torch.randn(inputs, width, generator=torch.Generator().manual_seed(0))
        self.directions = nn.Parameter(directions, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return sines (batch, width)."""
        return torch.sin(x @ self.directions)


def frozen_pair(*, image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    """Return networks of which the first layers are not trained."""
    values = torch.Size(image_shape).numel()
    generator = nn.Sequential(
        FrozenFeatures(latent_dim, 16), nn.Linear(16, values), nn.Unflatten(1, image_shape)
    )
    discriminator = nn.Sequential(nn.Flatten(), FrozenFeatures(values, 16), nn.Linear(16, 1))
    return generator, discriminator


def lazy_r1(*, gamma: float, interval: int) -> Penalty:
    """Return R1 with a strength that knows how rarely it is used."""
    return r1(gamma=gamma * interval)


def _linear_pair(image_shape: tuple[int, ...], latent_dim: int) -> tuple[nn.Module, nn.Module]:
    values = torch.Size(image_shape).numel()
    generator = nn.Sequential(nn.Linear(latent_dim, values), nn.Unflatten(1, image_shape))
    return generator, nn.Sequential(nn.Flatten(), nn.Linear(values, 1))
