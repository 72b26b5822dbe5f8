"""The residual networks of SNGAN (arXiv:1802.05957, table 4)."""

import math

from torch import Tensor, nn

from gan.models.base import Discriminator, Generator, Shape
from gan.models.norms import norm_2d
from gan.models.sizes import doublings
from gan.models.spectral import add_spectral_norm

SIZES = (28, 32)


def sngan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: int,
    channels: int,
    generator_norm: str,
    discriminator_norm: str,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """The pair for images of CIFAR-10's size, and of 28x28 pixels, where the generator begins
    at 7x7 and doubles twice.

    Weights are drawn by Glorot's uniform rule, sqrt(2) times as wide in the 3x3 convolutions of
    the residual paths; biases are zero at first.

    Args:
        image_shape: (channels, side, side) with a side of SIZES.
        classes: of the labels; 0 makes networks that take none.
        pac: samples that the discriminator sees at once, as channels (arXiv:1712.04086).
        channels: of every map in the discriminator; the generator has twice as many.
        generator_norm: none, batch or layer (over channels and space together), before every
            ReLU.
        discriminator_norm: the same, but for the first block, which sees the images, and the
            last ReLU.

    Raises:
        UserError: the image has another size.
        ValueError: there is no norm of that name.
    """
    first, count = doublings("SNGAN", image_shape, SIZES)
    wide = 2 * channels
    generator = Generator(
        nn.Sequential(
            nn.Linear(latent_dim + classes, wide * first**2),
            nn.Unflatten(1, (wide, first, first)),
            *(_up(wide, generator_norm) for _ in range(count)),
            *norm_2d(generator_norm, wide),
            nn.ReLU(),
            nn.Conv2d(wide, image_shape[0], 3, padding=1),
            nn.Tanh(),
        ),
        latent_dim=latent_dim,
        classes=classes,
    )
    discriminator = Discriminator(
        nn.Sequential(
            _down_from_images(pac * image_shape[0], channels),
            _down(channels, discriminator_norm),
            _same(channels, discriminator_norm),
            _same(channels, discriminator_norm),
            nn.ReLU(),
            _SumOverSpace(),
            nn.Linear(channels, 1),
        ),
        features=channels,
        classes=classes,
    )
    for network in (generator, discriminator):
        _initialize(network)
    if generator_spectral_norm:
        add_spectral_norm(generator)
    if discriminator_spectral_norm:
        add_spectral_norm(discriminator)
    return generator, discriminator


class _Block(nn.Module):
    """The sum of two paths."""

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module):
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.residual(x) + self.shortcut(x)
        return total


class _SumOverSpace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(2, 3))


def _up(width: int, norm: str) -> _Block:
    return _Block(
        nn.Sequential(
            *norm_2d(norm, width),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            _conv(width, width),
            *norm_2d(norm, width),
            nn.ReLU(),
            _conv(width, width),
        ),
        # The same as in the other order, at a quarter of the cost; below too.
        nn.Sequential(nn.Conv2d(width, width, 1), nn.Upsample(scale_factor=2)),
    )


def _down_from_images(inputs: int, width: int) -> _Block:
    """Without a ReLU at first, which would take the dark half of the images away."""
    return _Block(
        nn.Sequential(_conv(inputs, width), nn.ReLU(), _conv(width, width), nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, width, 1)),
    )


def _down(width: int, norm: str) -> _Block:
    return _Block(
        nn.Sequential(*_same(width, norm).residual, nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, width, 1)),
    )


def _same(width: int, norm: str) -> _Block:
    return _Block(
        nn.Sequential(
            *norm_2d(norm, width),
            nn.ReLU(),
            _conv(width, width),
            *norm_2d(norm, width),
            nn.ReLU(),
            _conv(width, width),
        ),
        nn.Identity(),
    )


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _initialize(network: nn.Module) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            gain = math.sqrt(2) if ".residual." in name else 1.0
            nn.init.xavier_uniform_(layer.weight, gain)
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
