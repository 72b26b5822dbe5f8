"""Differentiable augmentation (arXiv:2006.10738): what the discriminator sees of real and of
generated images is changed at random in the same ways, and gradients pass through."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def augment(images: Tensor, names: Sequence[str], noise: torch.Generator) -> Tensor:
    """Apply augmentations one after another.

    Args:
        images: (batch, channels, height, width) in [-1, 1].
        names: of "translation" and "cutout".
        noise: on the device of the images.

    Returns:
        Images of the same shape.
    """
    for name in names:
        images = AUGMENTATIONS[name](images, noise)
    return images


def translation(images: Tensor, noise: torch.Generator, *, part: float = 1 / 8) -> Tensor:
    """Shift each image by up to that part of its size each way, to the nearest pixel; what
    comes in from outside is mid-grey."""
    batch, _, height, width = images.shape
    reach = int(height * part + 0.5), int(width * part + 0.5)
    rows, columns = (
        _integers(batch, -shift, shift, noise) + shift + torch.arange(size, device=images.device)
        for shift, size in zip(reach, (height, width), strict=True)
    )
    padded = pad(images, (reach[1], reach[1], reach[0], reach[0]))
    which = torch.arange(batch, device=images.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def cutout(images: Tensor, noise: torch.Generator, *, part: float = 1 / 2) -> Tensor:
    """Make a square of that part of each image mid-grey, wherever it falls; it may reach over
    the edge."""
    batch, _, height, width = images.shape
    inside = []
    for size in (height, width):
        length = int(size * part + 0.5)
        start = _integers(batch, 0, size - length % 2, noise) - length // 2
        place = torch.arange(size, device=images.device)
        inside.append((place >= start) & (place < start + length))
    cut = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images.masked_fill(cut, 0.0)


AUGMENTATIONS = {"translation": translation, "cutout": cutout}


def _integers(batch: int, low: int, high: int, noise: torch.Generator) -> Tensor:
    """(batch, 1), both ends included."""
    return torch.randint(low, high + 1, (batch, 1), generator=noise, device=noise.device)
