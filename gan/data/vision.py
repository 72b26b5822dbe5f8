"""Data sets that torchvision can download."""

import contextlib
import functools
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gan.data.images import ImageData
from gan.errors import UserError
from gan.files import temporary_folder


def mnist(*, root: str | Path) -> ImageData:
    """Load the 60,000 training and 10,000 test images of MNIST, (1, 28, 28).

    Args:
        root: folder in torchvision's layout; archives in it are not downloaded again.

    Raises:
        UserError: the images are not there and cannot be downloaded, or root is not writable.
    """
    return _like_mnist("MNIST", root, "mnist")


def fashion_mnist(*, root: str | Path) -> ImageData:
    """Load Fashion-MNIST (arXiv:1708.07747), see `mnist`."""
    return _like_mnist("FashionMNIST", root, "fashion_mnist")


def kmnist(*, root: str | Path) -> ImageData:
    """Load KMNIST (arXiv:1812.01718), see `mnist`."""
    return _like_mnist("KMNIST", root, None)


def cifar10(*, root: str | Path) -> ImageData:
    """Load the 50,000 training and 10,000 test images of CIFAR-10, (3, 32, 32).

    Args:
        root: folder in torchvision's layout, see `mnist`.

    Raises:
        UserError: the images cannot be loaded, see `mnist`.
    """
    dataset = torchvision().datasets.CIFAR10
    train, test = _load(dataset, {dataset.filename: dataset.tgz_md5}, root)
    return ImageData(*_colour_tensors(train), *_colour_tensors(test), classes=10)


@functools.cache
def torchvision() -> ModuleType:
    """Return the library torchvision with its datasets and transforms.

    The wheel of torchvision registers kernels for operators that a torch without CUDA lacks, so
    its import fails there. We declare these operators; that is enough, because we call none.
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


# An operator exists only as long as the library object that declared it.
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def _like_mnist(name: str, root: str | Path, classifier: str | None) -> ImageData:
    """Load MNIST or another data set that is published in its format."""
    dataset = getattr(torchvision().datasets, name)
    archives = {f"{name}/raw/{file}": md5 for file, md5 in dataset.resources}
    train, test = _load(dataset, archives, root)
    return ImageData(*_grey_tensors(train), *_grey_tensors(test), classes=10, classifier=classifier)


def _grey_tensors(split: Any) -> tuple[Tensor, Tensor]:
    return split.data.unsqueeze(1), split.targets.long()


def _colour_tensors(split: Any) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(split.targets)


def _load(dataset: Any, archives: Mapping[str, str], root: str | Path) -> tuple[Any, Any]:
    """Return the training and the test split of a data set class of torchvision.

    Args:
        archives: md5 of each file that the class downloads, by its path below the root.
    """
    folder = Path(root).expanduser()
    splits = _read(dataset, folder)
    if splits is None:
        _download(dataset, archives, folder)
        splits = _read(dataset, folder)
    if splits is None:
        raise UserError(f"data.root={root}: {dataset.__name__} there cannot be read; remove it")
    return splits


def _read(dataset: Any, root: Path) -> tuple[Any, Any] | None:
    """Return both splits, or None if one of them is missing, incomplete or damaged."""
    try:
        return dataset(root, train=True), dataset(root, train=False)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError):
        return None


def _download(dataset: Any, archives: Mapping[str, str], root: Path) -> None:
    """Download and unpack the missing archives in a temporary folder, then move all files.

    So `root` never holds a file that is incomplete.
    """
    check = torchvision().datasets.utils.check_integrity
    valid = [name for name, md5 in archives.items() if check(root / name, md5)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with temporary_folder(root / dataset.__name__) as temporary:
            for name in valid:
                copy = temporary / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, copy)
            with contextlib.redirect_stdout(io.StringIO()):
                dataset(temporary, download=True)
            for path in list(temporary.rglob("*")):
                if path.is_file():
                    target = root / path.relative_to(temporary)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
    except (RuntimeError, OSError) as error:
        problems = _problems(archives, valid, root)
        problem = "; ".join(problems) or f"{dataset.__name__} cannot be unpacked"
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.root={root}: {problem}, and could not be downloaded ({reason}); "
            "data=mnist5k needs no download"
        ) from error


def _problems(archives: Mapping[str, str], valid: Sequence[str], root: Path) -> list[str]:
    """Name the archives that are damaged or missing."""
    invalid = {name: md5 for name, md5 in archives.items() if name not in valid}
    missing = [root / name for name in invalid if not (root / name).exists()]
    problems = [
        f"{root / name} does not have the md5 {md5}"
        for name, md5 in invalid.items()
        if root / name not in missing
    ]
    if missing:
        names = ", ".join(path.name for path in missing)
        verb = "is" if len(missing) == 1 else "are"
        problems.append(f"{names} {verb} not in {missing[0].parent}")
    return problems
