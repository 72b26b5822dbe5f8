"""Residual networks of R3GAN (arXiv:2501.05441, configuration E)."""

import itertools
import math
from functools import partial

import torch
from torch import Tensor, nn

from gan.errors import UserError
from gan.models.base import (
    Discriminator,
    Generator,
    Layers,
    ResidualBlock,
    Shape,
    find_doublings,
    make_pair,
)
from gan.settings import Count, NonNegative

MOST_DOUBLINGS = 5
"""The generator doubles its first map this often at most: from 4 to 128 or from 7 to 224 pixels."""
EXPANSION = 2
"""The grouped convolutions have this many times the channels of the map."""


def r3gan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    channels: Count,
    cardinality: Count,
    halve_above: Count,
    blocks: Count,
    negative_slope: NonNegative,
    embed_labels: bool = False,
) -> tuple[Generator, Discriminator]:
    """Make a generator and a discriminator of bottleneck blocks without any norm.

    A block adds to the map a 1x1 convolution to twice the channels, a grouped 3x3 convolution and a
    1x1 convolution back, with a LeakyReLU after each of the first two. Only these two have biases,
    which start at zero. The last one starts at zero. The others start with a variance by which the
    activations do not grow with the number of blocks, as in Fixup (arXiv:1901.09321). Between
    stages of blocks a filter, (1, 3, 3, 1) along both sides with zeros around the map, doubles the
    map in the generator and halves it in the discriminator. A 1x1 convolution changes the number of
    channels where the next stage has another one. The generator starts with a learned map for each
    channel, times a number that is linear in the latent, and the discriminator ends in the inner
    product of each channel with such a map. Both have the size of the smallest map, 4x4 in the
    paper. The generator's output is linear, so its values may lie outside [-1, 1]; pictures and
    metrics clip them.

    The authors' class-conditional networks are those with `embed_labels`. A learned vector for each
    class stands beside the latent. The discriminator has a linear layer from channels to channels
    in place of the one to a logit, and the logit is the inner product of its outputs and another
    vector for each class, so no part of the logit is the same for all classes.

    Args:
        image_shape: (channels, height, width) with sides that `find_doublings` allows.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        channels: number of channels of the smallest map.
        cardinality: number of groups of the grouped convolutions at the smallest map.
        halve_above: shorter side, in pixels, above which each map has half as many channels and
            groups as the next smaller one; 32 in the paper.
        blocks: number of blocks in each stage.
        negative_slope: slope of the LeakyReLU for negative inputs.
        embed_labels: treat labels as the authors do, with vectors of latent_dim numbers in the
            generator and of one for each channel in the discriminator; otherwise as in the other
            models. It changes nothing without classes.

    Raises:
        UserError: the samples are no images of such sizes, or the groups do not divide the
            channels.
    """
    height, width, doublings = find_doublings("R3GAN", image_shape, MOST_DOUBLINGS)
    shares = [1]
    for level in range(1, doublings + 1):
        halved = min(height, width) * 2**level > halve_above
        shares.append(2 * shares[-1] if halved else shares[-1])
    if EXPANSION * channels % cardinality or channels % shares[-1] or cardinality % shares[-1]:
        both = (
            f"; model.channels={channels} and model.cardinality={cardinality} must both be "
            f"divisible by {shares[-1]}"
        )
        raise UserError(
            f"model.cardinality={cardinality}: must divide {EXPANSION} * model.channels="
            f"{EXPANSION * channels}{both if shares[-1] > 1 else ''}"
        )
    widths = [channels // share for share in shares]
    groups = [cardinality // share for share in shares]
    # Fixup's scale for blocks of three convolutions, from the number of all blocks.
    scale = (blocks * len(widths)) ** (-1 / 4)
    stages = [
        partial(_blocks, blocks, width, group, negative_slope, scale)
        for width, group in zip(widths, groups, strict=True)
    ]
    embed_labels = embed_labels and classes > 0
    label_dim = latent_dim if embed_labels else classes
    generator = Layers(_FirstMap(latent_dim + label_dim, channels, height, width), *stages[0]())
    for (inputs, outputs), stage in zip(itertools.pairwise(widths), stages[1:], strict=True):
        generator.extend(_change_width(inputs, outputs))
        generator.append(_Resize(outputs, doubles=True))
        generator.extend(stage())
    generator.append(_convolution(widths[-1], image_shape[0]))

    discriminator = Layers(_convolution(pac * image_shape[0], widths[-1]))
    for (outputs, inputs), stage in zip(
        reversed([*itertools.pairwise(widths)]), stages[:0:-1], strict=True
    ):
        discriminator.extend(stage())
        discriminator.append(_Resize(inputs, doubles=False))
        discriminator.extend(_change_width(inputs, outputs))
    discriminator.extend(stages[0]())
    discriminator.append(_LastMap(channels, height, width))
    outputs = channels if embed_labels else 1
    discriminator.append(_drawn(nn.Linear(channels, outputs, bias=False)))
    return make_pair(
        generator,
        discriminator,
        latent_dim=latent_dim,
        classes=classes,
        features=channels,
        generator_spectral_norm=False,
        discriminator_spectral_norm=False,
        stackable=True,
        # Zeros at the end of a map's channels would move channels to other groups.
        paddable=False,
        judges_each_sample_alone=True,
        label_embedding=latent_dim if embed_labels else 0,
        projection_only=embed_labels,
        initialize=_initialize_vectors if embed_labels else _initialize_embedding,
    )


class _FirstMap(nn.Module):
    """A learned map for each channel, times a number that is linear in the latent."""

    def __init__(self, inputs: int, channels: int, height: int, width: int):
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, height, width))
        self.linear = _drawn(nn.Linear(inputs, channels, bias=False))

    def forward(self, z: Tensor) -> Tensor:
        scaled: Tensor = self.maps * self.linear(z)[:, :, None, None]
        return scaled


class _Resize(nn.Module):
    """A filter that doubles or halves the sides of maps."""

    kernel: Tensor

    def __init__(self, channels: int, *, doubles: bool):
        super().__init__()
        self._channels, self._doubles = channels, doubles
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / (4.0 if doubles else 8.0)
        # It never changes, so checkpoints need not hold it.
        self.register_buffer("kernel", torch.outer(row, row), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(self._channels, 1, 4, 4)
        resize = nn.functional.conv_transpose2d if self._doubles else nn.functional.conv2d
        return resize(x, kernel, stride=2, padding=1, groups=self._channels)


class _LastMap(nn.Module):
    """The inner product of each channel with a learned map.

    This is a depthwise convolution whose kernel has the size of its input.
    """

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        self.maps = nn.Parameter(torch.randn(channels, height, width) / math.sqrt(height * width))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.maps).sum(dim=(2, 3))


def _blocks(
    count: int, width: int, groups: int, negative_slope: float, scale: float
) -> list[ResidualBlock]:
    wide = EXPANSION * width
    gain = scale * nn.init.calculate_gain("leaky_relu", negative_slope)
    return [
        ResidualBlock(
            Layers(
                _convolution(width, wide, gain=gain, bias=True),
                nn.LeakyReLU(negative_slope),
                _convolution(wide, wide, 3, groups=groups, gain=gain, bias=True),
                nn.LeakyReLU(negative_slope),
                _convolution(wide, width, gain=0.0),
            ),
            nn.Identity(),
        )
        for _ in range(count)
    ]


def _change_width(inputs: int, outputs: int) -> list[nn.Module]:
    return [_convolution(inputs, outputs)] if inputs != outputs else []


def _convolution(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    groups: int = 1,
    gain: float = 1.0,
    bias: bool = False,
) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)
    return _drawn(layer, gain)


def _drawn(layer: nn.Linear | nn.Conv2d, gain: float = 1.0) -> nn.Module:
    """Draw weights with the standard deviation gain / sqrt(number of inputs); return the layer."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _initialize_embedding(network: nn.Module) -> None:
    """Draw the embedding of the labels like the weights of the last layer, to which it adds."""
    for layer in network.modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=layer.embedding_dim**-0.5)


def _initialize_vectors(network: nn.Module) -> None:
    """Draw the vectors of the labels as the authors do.

    They are the weights of a linear layer from one-hot vectors. Those of the discriminator are
    divided by the root of their length, so that their inner products do not grow with it.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Embedding):
            length = layer.embedding_dim if isinstance(network, Discriminator) else 1
            nn.init.normal_(layer.weight, std=(layer.num_embeddings * length) ** -0.5)
