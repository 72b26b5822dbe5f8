"""Image sizes that convolutional networks reach by doubling a small map."""

from collections.abc import Sequence

from gan.errors import UserError
from gan.models.base import Shape


def doublings(model: str, image_shape: Shape, allowed: Sequence[int]) -> tuple[int, int]:
    """The side of the first map and how often it is doubled: from 7 to 28 pixels, from 4 to a
    power of two.

    Raises:
        UserError: the samples are points, or images of another size than those allowed.
    """
    hint = f"allowed are {', '.join(f'{side}x{side}' for side in allowed)}; model=base takes any"
    if len(image_shape) != 3:
        raise UserError(f"{model}: makes images, not points of {image_shape[0]} numbers; {hint}")
    _, height, width = image_shape
    if height != width or height not in allowed:
        raise UserError(f"{model}: images of {height}x{width} pixels do not fit; {hint}")
    first = 7 if height == 28 else 4
    return first, (height // first).bit_length() - 1
