"""Residual networks of SNGAN (arXiv:1802.05957, tables 4 to 6)."""

import itertools
import math

from torch import Tensor, nn

from gan.models.base import (
    Discriminator,
    Generator,
    Layers,
    ResidualBlock,
    Shape,
    attention_at,
    check_attention,
    find_doublings,
    make_pair,
    norm_2d,
)
from gan.settings import Count, GeneratorNorm, Norm, Width

MOST_DOUBLINGS = 3
"""The generator doubles its first map this often at most: from 4 to 32 pixels."""
MOST_DOUBLINGS_OF_PYRAMID = 5
"""The same for a pyramid: from 4 to 128 pixels."""
WIDEST = 16
"""The widest maps of a pyramid have this many times the channels of its largest maps."""


def sngan_pair(
    *,
    image_shape: Shape,
    classes: int,
    pac: int,
    latent_dim: Count,
    channels: Width,
    generator_norm: GeneratorNorm,
    discriminator_norm: Norm,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
    pyramid: bool = False,
    attention: Count | None = None,
) -> tuple[Generator, Discriminator]:
    """Make the pair of table 4, for images of CIFAR-10's size, or that of tables 5 and 6.

    The generator starts with a small map and doubles it until it has the size of the image. Table
    4 has maps of equal widths: its discriminator halves the image twice, and has two blocks more.
    Tables 5 (48x48 pixels) and 6 (128x128 pixels) are pyramids: maps of half the side have twice as
    many channels. Their discriminators halve the image until a side has at most 4 pixels or is odd,
    and have one block more. 64x64 pixels, of which the paper has no table, get the widths of
    table 5 and the first map of table 6. Where a block changes the width, the generator's does so
    by its first convolution and the discriminator's by its second.

    Weights are drawn by Glorot's uniform rule, sqrt(2) times as wide in the 3x3 convolutions of the
    residual paths. Biases start at zero.

    Args:
        image_shape: (channels, height, width) with sides that `find_doublings` allows.
        classes: number of classes; 0 makes networks that take no labels.
        pac: number of samples that the discriminator judges at once, as channels
            (arXiv:1712.04086).
        latent_dim: number of latents.
        channels: number of channels of every map in the discriminator, where maps in the generator
            have twice as many; of the largest maps in both networks of a pyramid.
        generator_norm: none, batch, layer (over channels and space together) or
            conditional_batch, before every ReLU. The last takes the place of the labels beside the
            latent; the norm before the last ReLU is then batch, as in arXiv:1802.05637.
        discriminator_norm: none, batch or layer, but not in the first block, which sees the images,
            and not before the last ReLU.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.
        pyramid: make the pair of tables 5 and 6.
        attention: height of the map that self-attention follows in both networks; None for none.

    Raises:
        UserError: the samples are no images of such sizes, or no map has that height.
        ValueError: there is no norm of that name.
    """
    if pyramid:
        first, width, doublings = find_doublings("SNGAN", image_shape, MOST_DOUBLINGS_OF_PYRAMID)
    else:
        hint = "model=sngan_pyramid takes larger ones, and model=base any"
        first, width, doublings = find_doublings("SNGAN", image_shape, MOST_DOUBLINGS, hint)
    up = [first * 2**level for level in range(doublings + 1)]
    down = _heights_of_halves(image_shape) if pyramid else up[-2:-4:-1]
    check_attention("SNGAN", attention, {*up[1:]} & {*down})
    if pyramid:
        levels = [min(2**level, WIDEST) * channels for level in range(doublings + 1)]
        up_widths = levels[::-1]
        down_widths = [min(2**level, WIDEST) * channels for level in range(len(down))]
        same_widths = [min(2 ** len(down), WIDEST) * channels]
    else:
        up_widths = [2 * channels] * (doublings + 1)
        down_widths, same_widths = [channels, channels], [channels, channels]
    in_norms = generator_norm == "conditional_batch"
    generator = Layers(
        nn.Linear(latent_dim if in_norms else latent_dim + classes, up_widths[0] * first * width),
        nn.Unflatten(1, (up_widths[0], first, width)),
        *_up_blocks(up_widths, up, generator_norm, classes, attention),
        *norm_2d("batch" if in_norms else generator_norm, up_widths[-1]),
        nn.ReLU(),
        nn.Conv2d(up_widths[-1], image_shape[0], 3, padding=1),
        nn.Tanh(),
    )
    features = same_widths[-1]
    discriminator = nn.Sequential(
        _first_down_block(pac * image_shape[0], channels),
        *attention_at(attention, down[0], channels),
        *_down_blocks(down_widths, down, discriminator_norm, attention),
        *_same_size_blocks([down_widths[-1], *same_widths], discriminator_norm),
        nn.ReLU(),
        _SumOverSpace(),
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


def _heights_of_halves(image_shape: Shape) -> list[int]:
    """Return the heights of the maps of a pyramid's discriminator, the largest first."""
    _, height, width = image_shape
    heights = []
    while height % 2 == width % 2 == 0 and max(height, width) > 4:
        height, width = height // 2, width // 2
        heights.append(height)
    return heights


class _SumOverSpace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(2, 3))


def _up_blocks(
    widths: list[int], heights: list[int], norm: str, classes: int, attention: int | None
) -> list[nn.Module]:
    # The paper's shortcuts enlarge first and halve last. A 1x1 convolution commutes with both, so
    # here and below it runs on the smaller map, at a quarter of the cost.
    layers: list[nn.Module] = []
    for (inputs, outputs), height in zip(itertools.pairwise(widths), heights[1:], strict=True):
        enlarge = nn.Upsample(scale_factor=2)
        layers += [
            ResidualBlock(
                _residual(inputs, outputs, outputs, norm, classes, enlarge),
                nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Upsample(scale_factor=2)),
            ),
            *attention_at(attention, height, outputs),
        ]
    return layers


def _first_down_block(inputs: int, width: int) -> ResidualBlock:
    """Return a block without a ReLU at its start, which would erase the dark half of the images."""
    return ResidualBlock(
        Layers(_conv(inputs, width), nn.ReLU(), _conv(width, width), nn.AvgPool2d(2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, width, 1)),
    )


def _down_blocks(
    widths: list[int], heights: list[int], norm: str, attention: int | None
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for (inputs, outputs), height in zip(itertools.pairwise(widths), heights[1:], strict=True):
        layers += [
            ResidualBlock(
                Layers(*_residual(inputs, inputs, outputs, norm), nn.AvgPool2d(2)),
                nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1)),
            ),
            *attention_at(attention, height, outputs),
        ]
    return layers


def _same_size_blocks(widths: list[int], norm: str) -> list[nn.Module]:
    return [
        ResidualBlock(
            _residual(inputs, inputs, outputs, norm),
            nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1),
        )
        for inputs, outputs in itertools.pairwise(widths)
    ]


def _residual(
    inputs: int, inner: int, outputs: int, norm: str, classes: int = 0, *resize: nn.Module
) -> Layers:
    return Layers(
        *norm_2d(norm, inputs, classes),
        nn.ReLU(),
        *resize,
        _conv(inputs, inner),
        *norm_2d(norm, inner, classes),
        nn.ReLU(),
        _conv(inner, outputs),
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
