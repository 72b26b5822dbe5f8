"""Data sets that torchvision can download."""

import contextlib
import functools
import gzip
import hashlib
import io
import logging
import math
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan.data.cache import lock_for
from gan.data.images import ImageData
from gan.errors import UserError
from gan.system.files import temporary_folder

log = logging.getLogger(__name__)

Split = tuple[Tensor, Tensor]
"""Images (n, channels, height, width) and labels (n,)."""

PUBLISHED_COUNTS = (60000, 10000)
"""Numbers of images in the published files of MNIST and of data sets in its format."""
UNPACKED_MD5S = {
    "MNIST/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "MNIST/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "MNIST/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "MNIST/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    "FashionMNIST/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "FashionMNIST/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "FashionMNIST/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "FashionMNIST/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
"""md5 of the published files after unpacking. KMNIST publishes those of its archives alone."""


def mnist(*, root: str | Path) -> ImageData:
    """Load the 60,000 training and 10,000 test images of MNIST, (1, 28, 28).

    Args:
        root: folder in torchvision's layout. Archives in it are read without unpacking them, and
            are not downloaded again; it may be read-only then.

    Raises:
        UserError: the images are not there or damaged, and cannot be downloaded.
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
    archives = {dataset.filename: dataset.tgz_md5}
    train, test = _load(dataset, archives, root, functools.partial(_read_cifar10, dataset))
    return ImageData(*train, *test, classes=10)


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
    read = functools.partial(_read_like_mnist, name, dict(dataset.resources))
    train, test = _load(dataset, archives, root, read)
    return ImageData(*train, *test, classes=10, classifier=classifier)


def _load(
    dataset: Any,
    archives: Mapping[str, str],
    root: str | Path,
    read: Callable[[Path], Sequence[Split] | None],
) -> Sequence[Split]:
    """Return the training and the test split of a data set class of torchvision.

    Args:
        archives: md5 of each file that the class downloads, by its path below the root.
        read: returns both splits in a folder, or None if one is missing or damaged.
    """
    folder = Path(root).expanduser()
    splits = read(folder)
    if splits is None:
        with lock_for(folder / dataset.__name__):
            # Another process may have downloaded them meanwhile.
            splits = read(folder)
            if splits is None:
                _download(dataset, archives, folder)
                splits = read(folder)
    if splits is None:
        raise UserError(f"data.root={root}: {dataset.__name__} there cannot be read; remove it")
    return splits


def _read_like_mnist(name: str, md5s: Mapping[str, str], root: Path) -> list[Split] | None:
    splits = []
    for split in ("train", "t10k"):
        arrays = []
        for file in (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte"):
            path, archive = root / name / "raw" / file, root / name / "raw" / f"{file}.gz"
            content, md5 = _content(path), UNPACKED_MD5S.get(f"{name}/{file}")
            if content is None or _md5(content) != md5:
                packed = _content(archive, md5s[archive.name])
                whole = gzip.decompress(packed) if packed else None
                if content and whole and content != whole:
                    log.warning("%s is damaged, and %s is read in its place", path, archive.name)
                content = whole or content
            arrays.append(_from_idx(content, md5))
        images, labels = arrays
        if images is None or labels is None or len(images) != len(labels):
            return None
        splits.append((images.unsqueeze(1), labels.long()))
    return splits


def _from_idx(content: bytes | None, md5: str | None = None) -> Tensor | None:
    """Return the array in a file of MNIST's format; None if it is damaged.

    Args:
        md5: that of the published file. A file of that size is damaged if it has another one.
    """
    if not content or len(content) < 4 or content[:3] != b"\0\0\x08":
        return None
    start = 4 + 4 * content[3]
    if len(content) < start:
        return None
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    if len(content) != start + math.prod(shape):
        return None
    if md5 and shape[0] in PUBLISHED_COUNTS and _md5(content) != md5:
        return None
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).view(shape)


def _read_cifar10(dataset: Any, root: Path) -> list[Split] | None:
    batches = {name: _content(root / dataset.base_folder / name, md5)
               for name, md5 in (*dataset.train_list, *dataset.test_list)}  # fmt: skip
    if None in batches.values():
        packed = _content(root / dataset.filename, dataset.tgz_md5)
        if packed is None:
            return None
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            for name in batches:
                file = archive.extractfile(f"{dataset.base_folder}/{name}")
                batches[name] = file.read() if file else None
    splits = []
    for listed in (dataset.train_list, dataset.test_list):
        # Their checksums have been compared, so that nothing else is unpickled.
        entries = [pickle.loads(batches[name] or b"", encoding="latin1") for name, _ in listed]
        pixels = np.concatenate([entry["data"] for entry in entries]).reshape(-1, 3, 32, 32)
        labels = [label for entry in entries for label in entry["labels"]]
        splits.append((torch.from_numpy(pixels), torch.tensor(labels)))
    return splits


def _content(path: Path, md5: str | None = None) -> bytes | None:
    """Return the content of a file; None if it cannot be read or has another md5."""
    try:
        content = path.read_bytes() if path.is_file() else None
    except OSError:
        return None
    return content if content is not None and md5 in (None, _md5(content)) else None


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


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
    unpacked = [(root / name).with_suffix("") for name in invalid if name.endswith("-ubyte.gz")]
    missing = [root / name for name in invalid if not (root / name).exists()]
    problems = [
        f"{root / name} does not have the md5 {md5}"
        for name, md5 in invalid.items()
        if root / name not in missing
    ]
    damaged = [path for path in unpacked if path.exists() and path.with_suffix(".gz") in missing]
    problems += [f"{path} may be damaged" for path in damaged]
    if missing:
        names = ", ".join(path.name for path in missing)
        verb = "is" if len(missing) == 1 else "are"
        problems.append(f"{names} {verb} not in {missing[0].parent}")
    return problems
