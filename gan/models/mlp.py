"""Multilayer perceptrons for samples of any shape: images, series, vectors and points."""

import itertools
import math
from collections.abc import Callable
from functools import partial

from torch import nn

from gan.models.base import Discriminator, Generator, Layers, Shape, make_pair, norm_1d
from gan.settings import Count, GeneratorNorm, NonNegative, Norm, Width


def mlp_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    hidden_dim: Width,
    hidden_layers: Count,
    negative_slope: NonNegative,
    generator_norm: GeneratorNorm,
    discriminator_norm: Norm,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
) -> tuple[Generator, Discriminator]:
    """Make a generator (ReLU) and a discriminator (LeakyReLU) with hidden layers of equal sizes.

    Args:
        image_shape: shape of one sample. Samples of two dimensions or three, images and series,
            are in [-1, 1]: the generator ends in Tanh. Those of one dimension have no bounds: it
            ends in a linear layer.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        hidden_dim: width of each hidden layer.
        hidden_layers: number of hidden layers in each network.
        negative_slope: slope of the LeakyReLU for negative inputs.
        generator_norm: none, batch, layer or conditional_batch, after every hidden layer. The last
            takes the place of the labels beside the latent.
        discriminator_norm: none, batch or layer, for the discriminator.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.

    Raises:
        ValueError: there is no norm of that name.
    """
    values = math.prod(image_shape)
    hidden_dims = [hidden_dim] * hidden_layers
    leaky_relu = partial(nn.LeakyReLU, negative_slope)
    in_norms = generator_norm == "conditional_batch"
    inputs = latent_dim if in_norms else latent_dim + classes
    generator = Layers(
        *_hidden([inputs, *hidden_dims], generator_norm, nn.ReLU, classes),
        nn.Linear(hidden_dim, values),
        *([nn.Tanh(), nn.Unflatten(1, image_shape)] if len(image_shape) > 1 else []),
    )
    discriminator = nn.Sequential(
        nn.Flatten(),
        *_hidden([pac * values, *hidden_dims], discriminator_norm, leaky_relu),
        nn.Linear(hidden_dim, 1),
    )
    return make_pair(
        generator,
        discriminator,
        latent_dim=latent_dim,
        classes=classes,
        features=hidden_dim,
        generator_spectral_norm=generator_spectral_norm,
        discriminator_spectral_norm=discriminator_spectral_norm,
        labels_in_norms=in_norms,
        stackable=True,
        # A layer norm takes means over the width.
        paddable="layer" not in (generator_norm, discriminator_norm),
        judges_each_sample_alone=True,
    )


def _hidden(
    sizes: list[int], norm: str, activation: Callable[[], nn.Module], classes: int = 0
) -> list[nn.Module]:
    # A module for each layer, since one in several layers would be a loop in TensorBoard's graph.
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), *norm_1d(norm, outputs, classes), activation()]
    return layers
