"""Residual networks of SNGAN (arXiv:1802.05957, table 4)."""

import math

from torch import Tensor, nn

from gan.models.base import Discriminator, Generator, Shape, find_doublings, make_pair, norm_2d
from gan.settings import Count, Norm, Width

SIDES = (28, 32)
"""Sides of the images in pixels."""


def sngan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    channels: Width,
    generator_norm: Norm,
    discriminator_norm: Norm,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """Make the pair for images of CIFAR-10's size, or of 28x28 pixels.

    For 28x28 pixels the generator starts with a map of 7x7 and doubles it twice. Weights are drawn
    by Glorot's uniform rule, sqrt(2) times as wide in the 3x3 convolutions of the residual paths.
    Biases start at zero.

    Args:
        image_shape: (channels, side, side) with one of SIDES.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        channels: number of channels of every map in the discriminator. Maps in the generator have
            twice as many.
        generator_norm: none, batch or layer (over channels and space together), before every
            ReLU.
        discriminator_norm: the same, but not in the first block, which sees the images, and not
            before the last ReLU.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.

    Raises:
        UserError: the samples are no images of these sizes.
        ValueError: there is no norm of that name.
    """
    first, doublings = find_doublings("SNGAN", image_shape, SIDES)
    wide = 2 * channels
    generator = nn.Sequential(
        nn.Linear(latent_dim + classes, wide * first**2),
        nn.Unflatten(1, (wide, first, first)),
        *(_up_block(wide, generator_norm) for _ in range(doublings)),
        *norm_2d(generator_norm, wide),
        nn.ReLU(),
        nn.Conv2d(wide, image_shape[0], 3, padding=1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        _first_down_block(pac * image_shape[0], channels),
        _down_block(channels, discriminator_norm),
        _same_size_block(channels, discriminator_norm),
        _same_size_block(channels, discriminator_norm),
        nn.ReLU(),
        _SumOverSpace(),
        nn.Linear(channels, 1),
    )
    return make_pair(
        generator,
        discriminator,
        latent_dim=latent_dim,
        classes=classes,
        features=channels,
        generator_spectral_norm=generator_spectral_norm,
        discriminator_spectral_norm=discriminator_spectral_norm,
        stackable=True,
        # A layer norm takes means over the width.
        paddable="layer" not in (generator_norm, discriminator_norm),
        judges_each_sample_alone=True,
        initialize=_initialize,
    )


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


def _up_block(width: int, norm: str) -> _Block:
    # The paper's shortcuts enlarge first and halve last. A 1x1 convolution commutes with both, so
    # here and below it runs on the smaller map, at a quarter of the cost.
    return _Block(
        _residual(width, norm, nn.Upsample(scale_factor=2)),
        nn.Sequential(nn.Conv2d(width, width, 1), nn.Upsample(scale_factor=2)),
    )


def _first_down_block(inputs: int, width: int) -> _Block:
    """Return a block without a ReLU at its start, which would erase the dark half of the images."""
    return _Block(
        nn.Sequential(_conv(inputs, width), nn.ReLU(), _conv(width, width), nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, width, 1)),
    )


def _down_block(width: int, norm: str) -> _Block:
    return _Block(
        nn.Sequential(*_residual(width, norm), nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, width, 1)),
    )


def _same_size_block(width: int, norm: str) -> _Block:
    return _Block(_residual(width, norm), nn.Identity())


def _residual(width: int, norm: str, *resize: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *norm_2d(norm, width),
        nn.ReLU(),
        *resize,
        _conv(width, width),
        *norm_2d(norm, width),
        nn.ReLU(),
        _conv(width, width),
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
