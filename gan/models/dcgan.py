"""Deep convolutional networks (arXiv:1511.06434)."""

import itertools

from torch import nn

from gan.models.base import Discriminator, Generator, Shape
from gan.models.norms import norm_2d
from gan.models.sizes import doublings
from gan.models.spectral import add_spectral_norm

SIZES = (16, 28, 32, 64, 128)


def dcgan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: int,
    channels: int,
    negative_slope: float,
    generator_norm: str,
    discriminator_norm: str,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """A generator (ReLU) that doubles a small map up to the image, and a discriminator
    (LeakyReLU) that halves it again, by convolutions with kernel 4, stride 2 and padding 1.

    Norms are on all layers but the generator's output and the discriminator's input and output.
    Layers without a norm after them have biases, zero at first; the weights are drawn from
    N(0, 0.02).

    Args:
        image_shape: (channels, side, side) with a side of SIZES.
        classes: of the labels; 0 makes networks that take none.
        pac: samples that the discriminator sees at once, as channels (arXiv:1712.04086).
        channels: of the largest maps; each half as large has twice as many.
        generator_norm: none, batch or layer (over channels and space together).

    Raises:
        UserError: the image has another size.
        ValueError: there is no norm of that name.
    """
    first, count = doublings("DCGAN", image_shape, SIZES)
    widths = [channels * 2**level for level in range(count)]
    features = widths[-1] * first**2
    generator = Generator(
        nn.Sequential(
            nn.Linear(latent_dim + classes, features, bias=generator_norm == "none"),
            nn.Unflatten(1, (widths[-1], first, first)),
            *norm_2d(generator_norm, widths[-1]),
            nn.ReLU(),
            *_up(widths[::-1], generator_norm),
            nn.ConvTranspose2d(channels, image_shape[0], 4, stride=2, padding=1),
            nn.Tanh(),
        ),
        latent_dim=latent_dim,
        classes=classes,
    )
    discriminator = Discriminator(
        nn.Sequential(
            nn.Conv2d(pac * image_shape[0], channels, 4, stride=2, padding=1),
            nn.LeakyReLU(negative_slope),
            *_down(widths, discriminator_norm, negative_slope),
            nn.Flatten(),
            nn.Linear(features, 1),
        ),
        features=features,
        classes=classes,
    )
    for network in (generator, discriminator):
        network.apply(_initialize)
    if generator_spectral_norm:
        add_spectral_norm(generator)
    if discriminator_spectral_norm:
        add_spectral_norm(discriminator)
    return generator, discriminator


def _up(widths: list[int], norm: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [
            nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none"),
            *norm_2d(norm, outputs),
            nn.ReLU(),
        ]
    return layers


def _down(widths: list[int], norm: str, negative_slope: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [
            nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=norm == "none"),
            *norm_2d(norm, outputs),
            nn.LeakyReLU(negative_slope),
        ]
    return layers


def _initialize(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
        nn.init.normal_(layer.weight, std=0.02)
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
