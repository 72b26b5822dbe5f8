"""Labelled images as a data set, and conversions of their pixels."""

import numpy as np
import torch
from torch import Tensor

from gan.data.arrays import Array, split, to_numpy
from gan.data.pictures import grid
from gan.data.tensors import TensorData
from gan.errors import UserError

CHANNELS = (1, 3)
"""Numbers of channels that images may have: grey and colour."""


class ImageData(TensorData):
    """A data set of images, as `gan.data.Data`.

    Images are uint8 (n, channels, height, width).
    """

    @property
    def images(self) -> Tensor:
        """Images to train on."""
        return self.samples

    @property
    def test_images(self) -> Tensor:
        """Images that are held out."""
        return self.test_samples

    @staticmethod
    def for_training(raw: Tensor) -> Tensor:
        """Return uint8 pixels as floats in [-1, 1]."""
        return to_float(raw)

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return uint8 images (n, channels, height, width) as a grid with so many in a row."""
        return grid(samples, columns)


def image_data(
    images: Array,
    labels: Array | None = None,
    *,
    test: Array | None = None,
    test_labels: Array | None = None,
    channels_last: bool | None = None,
) -> ImageData:
    """Return a data set of images of any size, square or not.

    Args:
        images: uint8 (n, height, width), (n, height, width, channels) or (n, channels, height,
            width), with 1 channel or 3.
        labels: whole numbers or texts (n,), see `gan.data.arrays.split`. None makes one class.
        test: images to hold out. None holds out one in ten, always the same ones.
        test_labels: their labels.
        channels_last: tells the last two layouts apart. None finds it out.

    Raises:
        UserError: the arrays are not of that kind, or do not fit together.
    """
    rows = _channels_first("images", to_numpy("images", images), channels_last)
    held_out = None
    if test is not None:
        held_out = _channels_first("test", to_numpy("test", test), channels_last)
    parts = split("images", rows, labels, held_out, test_labels)
    return ImageData(*parts.tensors(), classes=parts.classes)


def _channels_first(name: str, images: np.ndarray, last: bool | None) -> np.ndarray:
    """Return uint8 images as (n, channels, height, width)."""
    if images.dtype != np.uint8:
        raise UserError(
            f"{name}: pixels must be uint8 from 0 to 255, not {images.dtype}; x from 0 to 1 "
            "becomes such by (255 * x).round().astype('uint8')"
        )
    if images.ndim == 3:
        return images[:, None]
    places = [place for place in (1, 3) if images.ndim == 4 and images.shape[place] in CHANNELS]
    if last is not None:
        places = [place for place in places if place == (3 if last else 1)]
    if not places:
        raise UserError(
            f"{name}: shape {images.shape} is none of (n, height, width), (n, height, width, "
            "channels) and (n, channels, height, width) with 1 channel or 3"
        )
    if len(places) == 2:
        raise UserError(
            f"{name}: shape {images.shape} may have its channels first or last; set channels_last"
        )
    return np.moveaxis(images, places[0], 1)


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 pixels to floats in [-1, 1], the range of the generator's tanh."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to the nearest uint8 pixels."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_raw_samples(output: Tensor) -> Tensor:
    """Convert a generator's output to raw samples: images to uint8 pixels, others to float32."""
    return to_uint8(output) if output.dim() == 4 else output.float()
