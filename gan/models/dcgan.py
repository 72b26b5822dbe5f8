"""Deep convolutional networks (arXiv:1511.06434)."""

import itertools
from collections.abc import Callable

from torch import nn

from gan.models.base import (
    Discriminator,
    Generator,
    Layers,
    Shape,
    attention_at,
    check_attention,
    find_doublings,
    make_pair,
    norm_2d,
)
from gan.settings import Count, GeneratorNorm, NonNegative, Norm, Width

MOST_DOUBLINGS = 5
"""The generator doubles its first map this often at most: from 4 to 128 pixels."""


def dcgan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    channels: Width,
    negative_slope: NonNegative,
    generator_norm: GeneratorNorm,
    discriminator_norm: Norm,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
    attention: Count | None = None,
) -> tuple[Generator, Discriminator]:
    """Make a generator (ReLU) and a discriminator (LeakyReLU) of strided convolutions.

    The generator doubles a small map until it has the size of the image, and the discriminator
    halves the image as often. The convolutions have kernel 4, stride 2 and padding 1. All layers
    have a norm, except for the output of the generator and the input and output of the
    discriminator. Layers without a norm after them have biases, which start at zero. Weights are
    drawn from N(0, 0.02).

    Args:
        image_shape: (channels, height, width) with sides that `find_doublings` allows.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        channels: number of channels of the largest maps. Maps of half the side have twice as many.
        negative_slope: slope of the LeakyReLU for negative inputs.
        generator_norm: none, batch, layer (over channels and space together) or
            conditional_batch, which takes the place of the labels beside the latent.
        discriminator_norm: none, batch or layer, for the discriminator.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.
        attention: height of the map that self-attention follows in both networks; None for none.

    Raises:
        UserError: the samples are no images of such sizes, or no map has that height.
        ValueError: there is no norm of that name.
    """
    first, width, doublings = find_doublings("DCGAN", image_shape, MOST_DOUBLINGS)
    heights = [first * 2**level for level in range(doublings)]
    check_attention("DCGAN", attention, heights)
    widths = [channels * 2**level for level in range(doublings)]
    features = widths[-1] * first * width
    in_norms = generator_norm == "conditional_batch"
    inputs = latent_dim if in_norms else latent_dim + classes
    generator = Layers(
        nn.Linear(inputs, features, bias=generator_norm == "none"),
        nn.Unflatten(1, (widths[-1], first, width)),
        *norm_2d(generator_norm, widths[-1], classes),
        nn.ReLU(),
        *attention_at(attention, first, widths[-1]),
        *_hidden(
            nn.ConvTranspose2d,
            [*zip(widths[::-1], heights, strict=True)],
            generator_norm,
            nn.ReLU,
            attention,
            classes,
        ),
        nn.ConvTranspose2d(channels, image_shape[0], 4, stride=2, padding=1),
        nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Conv2d(pac * image_shape[0], channels, 4, stride=2, padding=1),
        nn.LeakyReLU(negative_slope),
        *attention_at(attention, heights[-1], channels),
        *_hidden(
            nn.Conv2d,
            [*zip(widths, heights[::-1], strict=True)],
            discriminator_norm,
            lambda: nn.LeakyReLU(negative_slope),
            attention,
        ),
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
        labels_in_norms=in_norms,
        stackable=True,
        # A layer norm takes means over the width.
        paddable="layer" not in (generator_norm, discriminator_norm),
        judges_each_sample_alone=True,
        initialize=_initialize,
    )


def _hidden(
    convolution: type[nn.Conv2d] | type[nn.ConvTranspose2d],
    maps: list[tuple[int, int]],
    norm: str,
    activation: Callable[[], nn.Module],
    attention: int | None,
    classes: int = 0,
) -> list[nn.Module]:
    """Return the layers between maps, which are given by their channels and heights."""
    layers: list[nn.Module] = []
    for (inputs, _), (outputs, height) in itertools.pairwise(maps):
        layers += [
            convolution(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none"),
            *norm_2d(norm, outputs, classes),
            activation(),
            *attention_at(attention, height, outputs),
        ]
    return layers


def _initialize(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
