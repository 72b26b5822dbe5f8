"""Data sets that torchvision downloads."""

import contextlib
import functools
import io
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from gan.data.images import ImageData
from gan.errors import UserError


def mnist(*, root: str) -> ImageData:
    """The 60,000 training images of MNIST, (1, 28, 28).

    Args:
        root: folder in torchvision's layout; archives found there are not fetched again.

    Raises:
        UserError: the images are not there and cannot be downloaded, or root is not writable.
    """
    return _load("MNIST", root)


def fashion_mnist(*, root: str) -> ImageData:
    """The 60,000 training images of Fashion-MNIST (arXiv:1708.07747), as `mnist`."""
    return _load("FashionMNIST", root)


def kmnist(*, root: str) -> ImageData:
    """The 60,000 training images of KMNIST (arXiv:1812.01718), as `mnist`."""
    return _load("KMNIST", root)


@functools.cache
def torchvision() -> ModuleType:
    """The library, with its datasets and transforms, also beside a torch built without CUDA.

    torchvision's wheel registers kernels for operators that such a torch lacks, and fails to
    import. Declaring the operators is enough: nothing here calls them.
    """
    try:
        import torchvision.datasets
        import torchvision.transforms
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for operator in ("nms", "qnms"):
            _LIBRARY.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision.datasets
        import torchvision.transforms
    module: ModuleType = torchvision
    return module


# An operator lives as long as the library that declared it.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def _load(name: str, root: str) -> ImageData:
    folder = Path(root).expanduser()
    dataset = _open(name, folder)
    if dataset is None:
        _fetch(name, folder)
        dataset = _open(name, folder)
    if dataset is None:
        raise UserError(f"data.root={root}: {folder / name / 'raw'} cannot be read; remove it")
    return ImageData(dataset.data.unsqueeze(1), dataset.targets.long())


def _open(name: str, root: Path) -> Any | None:
    """The training set, or None where it is missing, incomplete or damaged."""
    try:
        return getattr(torchvision().datasets, name)(root, train=True, download=False)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError):
        return None


def _fetch(name: str, root: Path) -> None:
    """Download and unpack in a folder aside: what stands in `root` is complete."""
    raw = root / name / "raw"
    archives = getattr(torchvision().datasets, name).resources
    damaged = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            aside = Path(temporary, name, "raw")
            aside.mkdir(parents=True)
            for file, md5 in archives:
                if torchvision().datasets.utils.check_integrity(raw / file, md5):
                    shutil.copy(raw / file, aside)
                elif (raw / file).exists():
                    damaged.append(f"{raw / file} has not the md5 {md5}")
            with contextlib.redirect_stdout(io.StringIO()):
                getattr(torchvision().datasets, name)(temporary, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for path in aside.iterdir():
                path.replace(raw / path.name)
    except (RuntimeError, OSError) as error:
        found = "; ".join(damaged) or f"{name} is not in {raw}"
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.root={root}: {found}, and it could not be downloaded ({reason}); "
            "data=mnist5k needs no download"
        ) from error
