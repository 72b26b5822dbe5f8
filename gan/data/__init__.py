"""Data sets: images, vectors and series, and points that are drawn for each batch."""

from gan.data.base import Batches, Data, Scaling, content_hash
from gan.data.embedded import digits, mnist5k
from gan.data.floats import SeriesData, VectorData, series_data, vector_data
from gan.data.folder import image_folder
from gan.data.images import ImageData, image_data, to_float, to_raw_samples, to_uint8
from gan.data.mixtures import Mixture, grid25, ring8, spiral
from gan.data.stacked import stacked_mnist
from gan.data.tensors import Sampler
from gan.data.vision import cifar10, fashion_mnist, kmnist, mnist
from gan.data.waves import waves

__all__ = [
    "Batches",
    "Data",
    "ImageData",
    "Mixture",
    "Sampler",
    "Scaling",
    "SeriesData",
    "VectorData",
    "cifar10",
    "content_hash",
    "digits",
    "fashion_mnist",
    "grid25",
    "image_data",
    "image_folder",
    "kmnist",
    "mnist",
    "mnist5k",
    "ring8",
    "series_data",
    "spiral",
    "stacked_mnist",
    "to_float",
    "to_raw_samples",
    "to_uint8",
    "vector_data",
    "waves",
]
