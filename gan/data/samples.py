"""Samples that any program has made, read from a folder of images or from an array."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan.data.base import Data
from gan.data.folder import image_files, read_images
from gan.errors import UserError, first_line, is_out_of_memory
from gan.seeds import derive_seed

KEYS = ("images", "samples", "points", "arr_0")
"""Names of the array in an .npz file, of which the first one counts. `gan generate` writes the
first three, and numpy the last one."""


def holds_samples(path: Path) -> bool:
    """Return whether a path is an .npz file, or a folder with images in it or in its folders."""
    if not path.is_dir():
        return path.suffix == ".npz" and path.is_file()
    return bool(image_files(path))


def load_samples(path: Path, data: Data, count: int) -> Tensor:
    """Return `count` raw samples (count, *shape) of the kind of a data set.

    They are in a random order, the same at every call: metrics may take the first ones, and files
    are often sorted by class. Where there are more, they are chosen without replacement.

    Args:
        path: a folder of images, or an .npz file. In it are images, uint8 (n, height, width,
            channels), (n, channels, height, width) or (n, height, width), or other samples
            (n, *shape) in the data's own units.

    Raises:
        UserError: the path cannot be read, holds samples of another shape, or fewer than `count`.
    """
    raw = read_images(path, data.shape) if path.is_dir() else _read_array(path, data)
    if len(raw) < count:
        raise UserError(
            f"{path}: holds {len(raw)} samples, and {count} are to be measured; give "
            f"samples={len(raw)}, and compare it with values of as many"
        )
    chosen = torch.Generator().manual_seed(derive_seed(0, "samples"))
    return raw[torch.randperm(len(raw), generator=chosen)[:count]]


def _read_array(path: Path, data: Data) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as file:
            found = [name for name in KEYS if name in file.files] or list(file.files)
            array: Any = file[found[0]] if found[:1] else None
    except Exception as error:
        # A damaged archive raises errors of many types.
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path}: cannot be read as arrays ({first_line(error)})") from error
    if array is None:
        raise UserError(f"{path}: holds no array")
    shape = tuple(data.shape)
    wanted = f"samples (n, {', '.join(map(str, shape))})"
    if len(shape) != 3:
        if array.shape[1:] != shape or array.dtype.kind not in "fiu":
            raise UserError(
                f"{path}: {found[0]} is {array.dtype} {array.shape}, and the data have {wanted}"
            )
        values = torch.from_numpy(array.astype(np.float64))
        scaling = getattr(data, "scaling", None)
        if not values.isfinite().all():
            raise UserError(f"{path}: {found[0]} holds NaN or infinity")
        raw: Tensor = scaling.to_raw(values) if scaling else values.float()
        return raw
    if array.dtype != np.uint8:
        raise UserError(
            f"{path}: {found[0]} is {array.dtype}; images are uint8, from 0 for black to 255"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[1:] != shape:
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1:] != shape:
        raise UserError(f"{path}: {found[0]} holds {array.shape}, and the data have {wanted}")
    return torch.from_numpy(np.ascontiguousarray(array))
