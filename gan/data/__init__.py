"""Data sets: images in memory or in a file, and points that are drawn for each batch."""

from gan.data.base import Batches, Data
from gan.data.embedded import digits, mnist5k
from gan.data.folder import image_folder
from gan.data.images import ImageData, Sampler, to_float, to_raw_samples, to_uint8
from gan.data.mixtures import Mixture, grid25, ring8, spiral
from gan.data.stacked import stacked_mnist
from gan.data.vision import cifar10, fashion_mnist, kmnist, mnist

__all__ = [
    "Batches",
    "Data",
    "ImageData",
    "Mixture",
    "Sampler",
    "cifar10",
    "digits",
    "fashion_mnist",
    "grid25",
    "image_folder",
    "kmnist",
    "mnist",
    "mnist5k",
    "ring8",
    "spiral",
    "stacked_mnist",
    "to_float",
    "to_raw_samples",
    "to_uint8",
]
