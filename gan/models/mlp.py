"""Multilayer perceptrons for images of any shape, and for points."""

import itertools
import math

from torch import nn

from gan.models.base import Discriminator, Generator, Shape
from gan.models.norms import norm_1d
from gan.models.spectral import add_spectral_norm


def mlp_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: int,
    hidden_dim: int,
    hidden_layers: int,
    negative_slope: float,
    generator_norm: str,
    discriminator_norm: str,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """A generator (ReLU) and a discriminator (LeakyReLU) whose hidden layers have the same sizes.

    Args:
        image_shape: (channels, height, width) of images in [-1, 1], or (2,) of points, which are
            unbounded.
        classes: of the labels; 0 makes networks that take none.
        pac: samples that the discriminator sees at once, as channels (arXiv:1712.04086).
        generator_norm: none, batch or layer, after every hidden layer.

    Raises:
        ValueError: there is no norm of that name.
    """
    values = math.prod(image_shape)
    sizes = [latent_dim + classes] + [hidden_dim] * hidden_layers
    generator = Generator(
        nn.Sequential(
            *_hidden(sizes, generator_norm, nn.ReLU()),
            nn.Linear(hidden_dim, values),
            *([nn.Tanh(), nn.Unflatten(1, image_shape)] if len(image_shape) > 1 else []),
        ),
        latent_dim=latent_dim,
        classes=classes,
    )
    sizes[0] = pac * values
    discriminator = Discriminator(
        nn.Sequential(
            nn.Flatten(),
            *_hidden(sizes, discriminator_norm, nn.LeakyReLU(negative_slope)),
            nn.Linear(hidden_dim, 1),
        ),
        features=hidden_dim,
        classes=classes,
    )
    if generator_spectral_norm:
        add_spectral_norm(generator)
    if discriminator_spectral_norm:
        add_spectral_norm(discriminator)
    return generator, discriminator


def _hidden(sizes: list[int], norm: str, activation: nn.Module) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), *norm_1d(norm, outputs), activation]
    return layers
