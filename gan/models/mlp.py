"""Multilayer perceptrons for images of any shape."""

import itertools
import math

from torch import Tensor, nn

Shape = tuple[int, int, int]
"""Of an image: channels, height, width."""


class Generator(nn.Module):
    """Latents (batch, latent_dim) to images (batch, *image_shape) in [-1, 1], with ReLU."""

    def __init__(self, *, image_shape: Shape, latent_dim: int, hidden_dim: int, hidden_layers: int):
        super().__init__()
        self.latent_dim = latent_dim
        sizes = [latent_dim] + [hidden_dim] * hidden_layers
        self.layers = nn.Sequential(
            *_hidden(sizes, nn.ReLU()),
            nn.Linear(hidden_dim, math.prod(image_shape)),
            nn.Tanh(),
            nn.Unflatten(1, image_shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        images: Tensor = self.layers(z)
        return images


class Discriminator(nn.Module):
    """Images (batch, *image_shape) to logits (batch, 1), with LeakyReLU; a sigmoid of the
    logit is the probability that the image is real."""

    def __init__(
        self, *, image_shape: Shape, hidden_dim: int, hidden_layers: int, negative_slope: float
    ):
        super().__init__()
        sizes = [math.prod(image_shape)] + [hidden_dim] * hidden_layers
        self.layers = nn.Sequential(
            nn.Flatten(), *_hidden(sizes, nn.LeakyReLU(negative_slope)), nn.Linear(hidden_dim, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits


def mlp_pair(
    *,
    image_shape: Shape,
    latent_dim: int,
    hidden_dim: int,
    hidden_layers: int,
    negative_slope: float,
) -> tuple[Generator, Discriminator]:
    """A generator and a discriminator whose hidden layers have the same sizes."""
    generator = Generator(
        image_shape=image_shape,
        latent_dim=latent_dim,
        hidden_dim=hidden_dim,
        hidden_layers=hidden_layers,
    )
    discriminator = Discriminator(
        image_shape=image_shape,
        hidden_dim=hidden_dim,
        hidden_layers=hidden_layers,
        negative_slope=negative_slope,
    )
    return generator, discriminator


def _hidden(sizes: list[int], activation: nn.Module) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation]
    return layers
