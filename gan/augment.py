"""Views of samples that the discriminator sees: differentiable augmentation and packing.

Augmentation (arXiv:2006.10738) changes real and generated images at random in the same ways.
Gradients pass through it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def draw(shape: Sequence[int], names: Sequence[str], noise: torch.Generator) -> tuple[Tensor, ...]:
    """Draw the random numbers that `augment` needs, on the device of `noise`.

    Args:
        shape: shape of the images, (batch, channels, height, width).
        names: names of the augmentations.
        noise: source of the random numbers.

    Returns:
        Two int64 tensors (batch, 1) for each name, one for rows and one for columns.
    """
    batch, sides = shape[0], shape[-2:]
    return tuple(integers(batch, *RANGES[name](side), noise) for name in names for side in sides)


def augment(images: Tensor, names: Sequence[str], random_numbers: Sequence[Tensor]) -> Tensor:
    """Apply augmentations one after another.

    Args:
        images: (batch, channels, height, width) in [-1, 1].
        names: some of "translation" and "cutout".
        random_numbers: the result of `draw` for the same names.

    Returns:
        Images of the same shape.
    """
    for index, name in enumerate(names):
        rows, columns = random_numbers[2 * index : 2 * index + 2]
        images = AUGMENTATIONS[name](images, rows, columns)
    return images


def translation(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shift each image by its number of rows and columns, and fill the gap with mid-grey.

    The shift is an eighth of a side at most.
    """
    height, width = images.shape[-2:]
    return shift(images, rows, columns, (_max_shift(height), _max_shift(width)))


def shift(images: Tensor, rows: Tensor, columns: Tensor, reach: tuple[int, int]) -> Tensor:
    """Shift each image by its number of rows and columns, both (batch, 1).

    Args:
        images: (batch, channels, height, width); pixels outside of them are 0.
        rows: row i of the result is row i + rows of the image.
        columns: column i of the result is column i + columns of the image.
        reach: the largest shift by rows and by columns.
    """
    batch, _, height, width = images.shape
    device = images.device
    down = rows + reach[0] + torch.arange(height, device=device)
    right = columns + reach[1] + torch.arange(width, device=device)
    padded = pad(images, (reach[1], reach[1], reach[0], reach[0]))
    index = torch.arange(batch, device=device)[:, None, None]
    shifted = padded.permute(0, 2, 3, 1)[index, down[:, :, None], right[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def cutout(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Make a square of half the size of each image mid-grey.

    Its middle is in that row and column, so it may reach over the edge.
    """
    inside = []
    for middle, size in zip((rows, columns), images.shape[-2:], strict=True):
        side = _square_side(size)
        start = middle - side // 2
        place = torch.arange(size, device=images.device)
        inside.append((place >= start) & (place < start + side))
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(square, 0.0)


AUGMENTATIONS = {"translation": translation, "cutout": cutout}
"""Augmentations by name."""

RANGES: dict[str, Callable[[int], tuple[int, int]]] = {
    "translation": lambda size: (-_max_shift(size), _max_shift(size)),
    "cutout": lambda size: (0, size - _square_side(size) % 2),
}
"""Range of an augmentation's random numbers, both ends included, as a function of the side of an
image in pixels."""


def integers(batch: int, low: int, high: int, noise: torch.Generator) -> Tensor:
    """Draw int64 numbers (batch, 1) from `low` to `high`, both included."""
    return torch.randint(low, high + 1, (batch, 1), generator=noise, device=noise.device)


def pack(samples: Tensor, pac: int) -> Tensor:
    """Put `pac` samples side by side as the channels of one (PacGAN, arXiv:1712.04086).

    The discriminator then judges them together and sees if they are too similar.

    Args:
        samples: (batch, channels, ...); the coordinates of points count as channels.
        pac: number of samples in a pack; it divides the batch.

    Returns:
        Packs (batch / pac, pac * channels, ...).
    """
    return samples.reshape(len(samples) // pac, pac * samples.shape[1], *samples.shape[2:])


def _max_shift(size: int) -> int:
    return int(size / 8 + 0.5)


def _square_side(size: int) -> int:
    return int(size / 2 + 0.5)
