"""Data sets, each one tensor of images in memory."""

from gan.data.embedded import digits, mnist5k
from gan.data.images import ImageData, to_float, to_uint8
from gan.data.sampler import Sampler
from gan.data.vision import fashion_mnist, kmnist, mnist

__all__ = [
    "ImageData",
    "Sampler",
    "digits",
    "fashion_mnist",
    "kmnist",
    "mnist",
    "mnist5k",
    "to_float",
    "to_uint8",
]
