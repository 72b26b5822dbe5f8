"""Differentiable augmentation (arXiv:2006.10738): what the discriminator sees of real and of
generated images is changed at random in the same ways, and gradients pass through."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def draw(shape: Sequence[int], names: Sequence[str], noise: torch.Generator) -> tuple[Tensor, ...]:
    """The random numbers that `augment` needs for images of this shape, on the device of
    `noise`: for each name a pair of int64 (batch, 1), of rows and of columns."""
    batch, sides = shape[0], shape[-2:]
    return tuple(integers(batch, *RANGES[name](side), noise) for name in names for side in sides)


def augment(images: Tensor, names: Sequence[str], drawn: Sequence[Tensor]) -> Tensor:
    """Apply augmentations one after another.

    Args:
        images: (batch, channels, height, width) in [-1, 1].
        names: of "translation" and "cutout".
        drawn: what `draw` gave for the same names.

    Returns:
        Images of the same shape.
    """
    for index, name in enumerate(names):
        rows, columns = drawn[2 * index : 2 * index + 2]
        images = AUGMENTATIONS[name](images, rows, columns)
    return images


def translation(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shift each image by so many pixels each way, an eighth of its side at most; what comes in
    from outside is mid-grey."""
    height, width = images.shape[-2:]
    return shift(images, rows, columns, (_reach(height), _reach(width)))


def shift(images: Tensor, rows: Tensor, columns: Tensor, reach: tuple[int, int]) -> Tensor:
    """Shift each image by so many pixels each way (batch, 1), `reach` at most."""
    batch, _, height, width = images.shape
    device = images.device
    down = rows + reach[0] + torch.arange(height, device=device)
    right = columns + reach[1] + torch.arange(width, device=device)
    padded = pad(images, (reach[1], reach[1], reach[0], reach[0]))
    which = torch.arange(batch, device=device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, down[:, :, None], right[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def cutout(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Make a square of half the size of each image mid-grey, with its middle in that row and
    column; it may reach over the edge."""
    inside = []
    for middle, size in zip((rows, columns), images.shape[-2:], strict=True):
        length = _length(size)
        start = middle - length // 2
        place = torch.arange(size, device=images.device)
        inside.append((place >= start) & (place < start + length))
    cut = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(cut, 0.0)


AUGMENTATIONS = {"translation": translation, "cutout": cutout}

RANGES: dict[str, Callable[[int], tuple[int, int]]] = {
    "translation": lambda size: (-_reach(size), _reach(size)),
    "cutout": lambda size: (0, size - _length(size) % 2),
}
"""The smallest and the largest number that each draws, for a side of that many pixels."""


def _reach(size: int) -> int:
    """An eighth of the side."""
    return int(size / 8 + 0.5)


def _length(size: int) -> int:
    return int(size / 2 + 0.5)


def integers(batch: int, low: int, high: int, noise: torch.Generator) -> Tensor:
    """(batch, 1), both ends included."""
    return torch.randint(low, high + 1, (batch, 1), generator=noise, device=noise.device)
