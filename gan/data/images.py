"""Labelled images in memory, and the two ways to write a pixel."""

from typing import NamedTuple

import torch
from torch import Tensor


class ImageData(NamedTuple):
    """A whole data set: uint8 images (n, channels, height, width), int64 labels (n,)."""

    images: Tensor
    labels: Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels to floats in [-1, 1], the range of the generator's tanh."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to the nearest uint8 pixels."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
