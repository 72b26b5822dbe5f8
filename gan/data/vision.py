"""Data sets that torchvision downloads."""

import contextlib
import functools
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gan.data.images import ImageData
from gan.errors import UserError


def mnist(*, root: str) -> ImageData:
    """The 60,000 training and 10,000 test images of MNIST, (1, 28, 28).

    Args:
        root: folder in torchvision's layout; archives found there are not fetched again.

    Raises:
        UserError: the images are not there and cannot be downloaded, or root is not writable.
    """
    return _digits("MNIST", root, "mnist")


def fashion_mnist(*, root: str) -> ImageData:
    """Fashion-MNIST (arXiv:1708.07747), as `mnist`."""
    return _digits("FashionMNIST", root, "fashion_mnist")


def kmnist(*, root: str) -> ImageData:
    """KMNIST (arXiv:1812.01718), as `mnist`."""
    return _digits("KMNIST", root, None)


def cifar10(*, root: str) -> ImageData:
    """The 50,000 training and 10,000 test images of CIFAR-10, (3, 32, 32).

    Args:
        root: as of `mnist`.

    Raises:
        UserError: as `mnist`.
    """
    dataset = torchvision().datasets.CIFAR10
    train, test = _splits(dataset, {dataset.filename: dataset.tgz_md5}, root)
    return ImageData(*_coloured(train), *_coloured(test), classes=10)


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


def _digits(name: str, root: str, classifier: str | None) -> ImageData:
    """MNIST, or a set published in its format."""
    dataset = getattr(torchvision().datasets, name)
    archives = {f"{name}/raw/{file}": md5 for file, md5 in dataset.resources}
    train, test = _splits(dataset, archives, root)
    return ImageData(*_grey(train), *_grey(test), classes=10, classifier=classifier)


def _grey(split: Any) -> tuple[Tensor, Tensor]:
    return split.data.unsqueeze(1), split.targets.long()


def _coloured(split: Any) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(split.targets)


def _splits(dataset: Any, archives: Mapping[str, str], root: str) -> tuple[Any, Any]:
    """The training and the test set of a class of torchvision's.

    Args:
        archives: md5 by path below the root, of what the class downloads.
    """
    folder = Path(root).expanduser()
    splits = _open(dataset, folder)
    if splits is None:
        _fetch(dataset, archives, folder)
        splits = _open(dataset, folder)
    if splits is None:
        raise UserError(f"data.root={root}: {dataset.__name__} there cannot be read; remove it")
    return splits


def _open(dataset: Any, root: Path) -> tuple[Any, Any] | None:
    """Both sets, or None where one is missing, incomplete or damaged."""
    try:
        return dataset(root, train=True), dataset(root, train=False)
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError):
        return None


def _fetch(dataset: Any, archives: Mapping[str, str], root: Path) -> None:
    """Download and unpack in a folder aside: what stands in `root` is complete."""
    check = torchvision().datasets.utils.check_integrity
    whole = [name for name, md5 in archives.items() if check(root / name, md5)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            for name in whole:
                copy = Path(temporary, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / name, copy)
            with contextlib.redirect_stdout(io.StringIO()):
                dataset(temporary, download=True)
            for path in list(Path(temporary).rglob("*")):
                if path.is_file():
                    target = root / path.relative_to(temporary)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
    except (RuntimeError, OSError) as error:
        problems = _problems(archives, whole, root)
        found = "; ".join(problems) or f"{dataset.__name__} cannot be unpacked"
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.root={root}: {found}, and could not be downloaded ({reason}); "
            "data=mnist5k needs no download"
        ) from error


def _problems(archives: Mapping[str, str], whole: Sequence[str], root: Path) -> list[str]:
    there = {name: md5 for name, md5 in archives.items() if (root / name).exists()}
    missing = [root / name for name in archives if name not in there]
    found = [f"{root / n} has not the md5 {md5}" for n, md5 in there.items() if n not in whole]
    if missing:
        names = ", ".join(path.name for path in missing)
        found.append(f"{names} {'is' if len(missing) == 1 else 'are'} not in {missing[0].parent}")
    return found
