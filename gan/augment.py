"""Views of samples that the discriminator sees: differentiable augmentation and packing.

Augmentation (arXiv:2006.10738) changes real and generated images at random in the same ways.
Gradients pass through it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

Probability = float | Tensor
"""A probability: a number, or a scalar tensor on the device of the random numbers."""


ADA_INTERVAL = 4
"""Steps from one change of an adaptive probability to the next, as in arXiv:2006.06676."""


class Ada(NamedTuple):
    """The aim of an adaptive probability, and its speed."""

    target: float
    """The mean sign of the logits of real images at which the probability stays, from -1 to 1."""
    images: int
    """Real images in which the probability can go from 0 to 1."""


@dataclass
class AdaptiveProbability:
    """A probability that grows while the discriminator overfits, and falls while it does not.

    It overfits where the logits of real images, as it sees them, are positive more often than the
    target says (ADA, arXiv:2006.06676).
    """

    p: Tensor
    """The probability of the next step, a scalar."""
    signs: Tensor
    """The sum over the steps since the last change of the mean sign of the real logits."""
    steps: int = 0
    """The number of these steps."""

    @classmethod
    def start(cls, device: torch.device) -> "AdaptiveProbability":
        """Return a probability of 0."""
        return cls(torch.zeros((), device=device), torch.zeros((), device=device))

    def adjust(self, ada: Ada, batch_size: int, most: float) -> None:
        """Change the probability if ADA_INTERVAL steps have passed, without waiting for the device.

        Args:
            batch_size: real images in a step.
            most: the largest probability.
        """
        if self.steps < ADA_INTERVAL:
            return
        change = batch_size * ADA_INTERVAL / ada.images
        excess = self.signs / self.steps - ada.target
        self.p.add_(change * excess.sign()).clamp_(0, most)
        self.signs.zero_()
        self.steps = 0


def draw(
    shape: Sequence[int],
    names: Sequence[str],
    noise: torch.Generator,
    probability: Probability = 1.0,
) -> tuple[Tensor, ...]:
    """Draw the random numbers that `augment` needs, on the device of `noise`.

    An image that an augmentation is to leave alone gets the numbers that change nothing. So the
    result has the same form for every probability.

    Args:
        shape: shape of the images, (batch, channels, height, width).
        names: names of the augmentations.
        noise: source of the random numbers.
        probability: the probability with which each augmentation changes each image.

    Returns:
        Tensors (batch, 1), as many for each name as its augmentation has ranges.
    """
    batch, sides, numbers = shape[0], (shape[-2], shape[-1]), []
    for name in names:
        ranges = AUGMENTATIONS[name].ranges(*sides)
        drawn = [_draw_from(one, batch, noise) for one in ranges]
        if isinstance(probability, Tensor) or probability < 1:
            changed = torch.rand(batch, 1, generator=noise, device=noise.device) < probability
            drawn = [
                value.where(changed, value.new_full((), one.neutral))
                for value, one in zip(drawn, ranges, strict=True)
            ]
        numbers += drawn
    return tuple(numbers)


def augment(images: Tensor, names: Sequence[str], random_numbers: Sequence[Tensor]) -> Tensor:
    """Apply augmentations one after another.

    Args:
        images: (batch, channels, height, width) in [-1, 1].
        names: names of AUGMENTATIONS.
        random_numbers: the result of `draw` for the same names.

    Returns:
        Images of the same shape.
    """
    left = list(random_numbers)
    for name in names:
        function, ranges = AUGMENTATIONS[name]
        count = len(ranges(1, 1))
        images = function(images, *left[:count])
        del left[:count]
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


def colour(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Change the brightness of each image, then its saturation, then its contrast.

    Args:
        images: (batch, channels, height, width).
        brightness: is added to each pixel, (batch, 1).
        saturation: factor of the distance of each pixel to the mean of its channels.
        contrast: factor of the distance of each pixel to the mean of its image.
    """
    shift, *factors = (
        numbers.to(images.dtype)[:, :, None, None] for numbers in (brightness, saturation, contrast)
    )
    images = images + shift
    for dims, factor in zip(((1,), (1, 2, 3)), factors, strict=True):
        # A factor of 1 leaves every bit as it is.
        images = torch.lerp(images.mean(dims, keepdim=True), images, factor)
    return images


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror the images left to right for which `flipped`, (batch, 1), is 1."""
    return images.flip(-1).where(flipped[:, :, None, None] == 1, images)


class Range(NamedTuple):
    """The range of a random number: whole numbers with both ends, or numbers from low to high."""

    low: float
    high: float
    neutral: float
    """The number that leaves an image as it is. It may lie outside of the range."""


class Augmentation(NamedTuple):
    """A change of images, and the random numbers that it needs."""

    apply: Callable[..., Tensor]
    """Changed images, as a function of images and of one tensor (batch, 1) for each range."""
    ranges: Callable[[int, int], tuple[Range, ...]]
    """Ranges of the numbers, as a function of the height and the width of an image in pixels."""


def _shift_range(side: int) -> Range:
    return Range(-_max_shift(side), _max_shift(side), neutral=0)


def _middle_range(side: int) -> Range:
    # A square whose middle is that far above the image reaches no pixel of it.
    return Range(0, side - _square_side(side) % 2, neutral=-side)


AUGMENTATIONS = {
    "translation": Augmentation(
        translation, lambda height, width: (_shift_range(height), _shift_range(width))
    ),
    "cutout": Augmentation(
        cutout, lambda height, width: (_middle_range(height), _middle_range(width))
    ),
    "colour": Augmentation(
        colour, lambda *sides: (Range(-0.5, 0.5, 0.0), Range(0.0, 2.0, 1.0), Range(0.5, 1.5, 1.0))
    ),
    "flip": Augmentation(flip, lambda *sides: (Range(0, 1, neutral=0),)),
}
"""Augmentations by name: translation, cutout and colour as in arXiv:2006.10738, and mirroring."""


def _draw_from(one: Range, batch: int, noise: torch.Generator) -> Tensor:
    """Draw numbers (batch, 1) from a range: int64 if its ends are whole numbers, else float32."""
    if isinstance(one.low, int) and isinstance(one.high, int):
        return integers(batch, one.low, one.high, noise)
    uniform = torch.rand(batch, 1, generator=noise, device=noise.device)
    return uniform * (one.high - one.low) + one.low


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
