"""An array that takes long to make, kept in a file and, where it is large, left there."""

import contextlib
import hashlib
import math
import os
import warnings
import weakref
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan.data.cache import alone
from gan.errors import UserError
from gan.files import replacing

IN_MEMORY = 2**30
"""Bytes. What is larger is mapped: each run would hold a copy, of a mapped file all share one."""


class Made(NamedTuple):
    """An array as it is made: uint8 pieces that follow one another along its first axis."""

    shape: tuple[int, ...]
    pieces: Iterable[np.ndarray]


class Kept(NamedTuple):
    """A uint8 array, in memory or mapped, read only; `rows` where it is mapped."""

    array: np.ndarray
    rows: "Rows | None"


class Rows:
    """Rows of a mapped array, read from its file.

    Through the map, rows in no order are many small reads of far more than is wanted, and a disk
    that fails kills the process.
    """

    def __init__(self, array: np.memmap, path: Path):
        self._array, self._path = array, path
        # Opened once: another process may put another file in this one's place.
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)

    def take(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Write rows (n,) into `out` (n, ...), which is contiguous.

        Raises:
            UserError: they cannot be read.
        """
        if not hasattr(os, "preadv"):  # Windows
            np.take(self._array, indices, axis=0, out=out, mode="clip")
            return
        start, size = self._array.offset, self._array[0].nbytes
        for row, index in zip(out.reshape(len(out), size), indices.tolist(), strict=True):
            try:
                count = os.preadv(self._file, [row.data], start + index * size)
            except OSError as error:
                raise UserError(f"{self._path}: cannot be read ({error.strerror})") from error
            if count != size:
                raise UserError(f"{self._path}: cannot be read (it ends too early)")


def kept(path: Path, key: str, make: Callable[[], Made]) -> Kept:
    """The array of `path`, or a new one, kept there, if it is missing, damaged or has another key.

    Up to IN_MEMORY it is read whole, and where `path` cannot be written it is made each time. A
    larger one is never in memory as a whole: it is written piece by piece and then mapped. Of its
    damages only a wrong length is noticed.

    Of several processes one makes it; others go on with the file that they have mapped.

    Raises:
        OSError: it is large, and cannot be written.
    """
    with alone(path):
        found = _read(path, key)
        if found:
            return found
        made = make()
        if math.prod(made.shape) > IN_MEMORY:
            _write(path, key, made)
            return _mapped(path)
        array = np.concatenate(list(made.pieces))
        with contextlib.suppress(OSError):
            _write(path, key, Made(made.shape, [array]))
        return Kept(array, None)


def as_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the same memory. Where that is a mapped file, nothing may write to it."""
    with warnings.catch_warnings():
        # Mapped for writing as well, a file larger than the machine's memory would be refused.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _write(path: Path, key: str, made: Made) -> None:
    """An .npy file, with its key and checksum after the array, where numpy does not look.

    Not written through a map: where the disk is full, that kills the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": made.shape}
    checksum = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in made.pieces:
            checksum = zlib.crc32(piece.data, checksum)
            file.write(piece.data)
        file.write(_end(key) + checksum.to_bytes(4, "big"))


def _read(path: Path, key: str) -> Kept | None:
    end = _end(key)
    try:
        with path.open("rb") as file:
            file.seek(-len(end) - 4, os.SEEK_END)
            if file.read(len(end)) != end:
                return None
            checksum = int.from_bytes(file.read(), "big")
        found = _mapped(path)
        if found.array.nbytes > IN_MEMORY:
            return found
        array = np.array(found.array)
    except (OSError, ValueError, EOFError):
        return None
    return Kept(array, None) if zlib.crc32(array.data) == checksum else None


def _mapped(path: Path) -> Kept:
    array = np.load(path, mmap_mode="r")
    return Kept(array, Rows(array, path))


def _end(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
