"""Deep convolutional networks (arXiv:1511.06434)."""

import itertools
from collections.abc import Callable

from torch import nn

from gan.models.base import Discriminator, Generator, Shape, find_doublings, make_pair, norm_2d
from gan.settings import Count, NonNegative, Norm, Width

SIDES = (16, 28, 32, 64, 128)
"""Sides of the images in pixels."""


def dcgan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    channels: Width,
    negative_slope: NonNegative,
    generator_norm: Norm,
    discriminator_norm: Norm,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """Make a generator (ReLU) and a discriminator (LeakyReLU) of strided convolutions.

    The generator doubles a small map until it has the size of the image, and the discriminator
    halves the image as often. The convolutions have kernel 4, stride 2 and padding 1. All layers
    have a norm, but for the output of the generator and the input and output of the
    discriminator. Layers without a norm after them have biases, which start at zero. Weights are
    drawn from N(0, 0.02).

    Args:
        image_shape: (channels, side, side) with one of SIDES.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        channels: number of channels of the largest maps. Maps of half the side have twice as many.
        negative_slope: slope of the LeakyReLU for negative inputs.
        generator_norm: none, batch or layer (over channels and space together).
        discriminator_norm: the same for the discriminator.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.

    Raises:
        UserError: the samples are no images of these sizes.
        ValueError: there is no norm of that name.
    """
    first, doublings = find_doublings("DCGAN", image_shape, SIDES)
    widths = [channels * 2**level for level in range(doublings)]
    features = widths[-1] * first**2
    generator = nn.Sequential(
        nn.Linear(latent_dim + classes, features, bias=generator_norm == "none"),
        nn.Unflatten(1, (widths[-1], first, first)),
        *norm_2d(generator_norm, widths[-1]),
        nn.ReLU(),
        *_hidden(nn.ConvTranspose2d, widths[::-1], generator_norm, nn.ReLU),
        nn.ConvTranspose2d(channels, image_shape[0], 4, stride=2, padding=1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(pac * image_shape[0], channels, 4, stride=2, padding=1),
        nn.LeakyReLU(negative_slope),
        *_hidden(nn.Conv2d, widths, discriminator_norm, lambda: nn.LeakyReLU(negative_slope)),
        nn.Flatten(),
        nn.Linear(features, 1),
    )
    return make_pair(
        generator,
        discriminator,
        latent_dim=latent_dim,
        classes=classes,
        features=features,
        generator_spectral_norm=generator_spectral_norm,
        discriminator_spectral_norm=discriminator_spectral_norm,
        stackable=True,
        # A layer norm takes means over the width.
        paddable="layer" not in (generator_norm, discriminator_norm),
        judges_each_sample_alone=True,
        initialize=_initialize,
    )


def _hidden(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d],
    widths: list[int],
    norm: str,
    activation: Callable[[], nn.Module],
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [
            convolution(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none"),
            *norm_2d(norm, outputs),
            activation(),
        ]
    return layers


def _initialize(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
