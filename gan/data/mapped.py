"""Arrays that may be larger than memory: cached in a file, mapped, and read in the background."""

import contextlib
import hashlib
import math
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gan.data.cache import lock_for
from gan.errors import UserError
from gan.system.files import replacing

MAX_BYTES_IN_MEMORY = 2**30
"""Size up to which an array is read into memory. A larger one is mapped: then all processes share
one copy, while each run would otherwise hold its own."""

TIME_BYTES = 8
"""Bytes of the time that a file holds, in seconds since 1970."""

T = TypeVar("T")


class ChunkedArray(NamedTuple):
    """A uint8 array that is computed in chunks along its first axis."""

    shape: tuple[int, ...]
    chunks: Iterable[np.ndarray]


class CachedArray(NamedTuple):
    """A uint8 array, either in memory or mapped from its file for reading only."""

    array: np.ndarray
    reader: "RowReader | None"
    """Reader of the file if the array is mapped."""
    digest: str
    """The sha256 of the array's values."""


class RowReader:
    """Reader of single rows from the file of a mapped array.

    Reading rows in random order through the map costs many small reads of far more than those
    rows, and a disk error there kills the process.
    """

    def __init__(self, array: np.memmap, path: Path):
        self._array, self._path = array, path
        # We open the file only once, because another process may replace it.
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)

    def read(self, indices: np.ndarray, out: np.ndarray) -> None:
        """Read the rows `indices` (n,) into `out` (n, ...), which must be contiguous.

        Raises:
            UserError: the rows cannot be read.
        """
        if not hasattr(os, "preadv"):  # Windows
            np.take(self._array, indices, axis=0, out=out, mode="clip")
            return
        start, size = self._array.offset, self._array[0].nbytes
        for row, index in zip(out.reshape(len(out), size), indices.tolist(), strict=True):
            try:
                count = os.preadv(self._file, [row.data], start + index * size)
            except OSError as error:
                raise UserError(
                    f"{self._path}: cannot be read ({error.strerror or error})"
                ) from error
            if count != size:
                raise UserError(f"{self._path}: cannot be read (it ends too early)")


def cached_array(path: Path, key: str, make: Callable[[], ChunkedArray]) -> CachedArray:
    """Return the array stored in the file `path`.

    If the file is missing, damaged or altered, or was stored with another key, `make` is called and
    its result is stored. If several processes need the array at once, only one of them calls
    `make`. A process that has mapped an older file keeps using that one.

    An array of up to MAX_BYTES_IN_MEMORY is read into memory. If `path` cannot be written, every
    call makes it again. A larger array is never in memory as a whole: it is written chunk by
    chunk and then mapped. Its values are compared with their checksum if the file's time is not the
    one at which it was written.

    Raises:
        OSError: the array is too large for memory and cannot be written.
    """
    with lock_for(path):
        stored = _read(path, key)
        if stored:
            return stored
        new = make()
        if math.prod(new.shape) > MAX_BYTES_IN_MEMORY:
            digest = _write(path, key, new)
            return _map(path, digest)
        array = np.concatenate(list(new.chunks))
        with contextlib.suppress(OSError):
            _write(path, key, ChunkedArray(new.shape, [array]))
        return CachedArray(array, None, hashlib.sha256(array.data).hexdigest())


def as_tensor(array: np.ndarray) -> Tensor:
    """Return a tensor on the same memory. If that is a mapped file, nobody may write to it."""
    with warnings.catch_warnings():
        # The map is for reading only. The system would refuse a writable map of a file that is
        # larger than the machine's memory.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


class Prefetcher(Generic[T]):
    """Background thread that calls a function of a number before its values are asked for.

    The thread starts when the first value is asked for, and keeps the next `depth` values ready.
    If numbers are not asked for in order, it starts again from the number asked for. It ends when
    this object is deleted.
    """

    def __init__(self, function: Callable[[int], T], depth: int):
        """Prepare the thread.

        Args:
            function: called in the thread only. It must not refer to the owner of this object,
                because it would then keep the owner alive until the thread has nothing to do.
            depth: number of values to prepare in advance.
        """
        self._function, self._depth = function, depth
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: dict[int, Future[T]] = {}
        weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)

    def get(self, number: int) -> T:
        """Return the value for `number`, or raise the error that the function raised for it."""
        wanted = range(number, number + 1 + self._depth)
        for other in [other for other in self._pending if other not in wanted]:
            self._pending.pop(other).cancel()
        for other in wanted:
            if other not in self._pending:
                self._pending[other] = self._thread.submit(self._function, other)
        return self._pending.pop(number).result()


def free_memory(device: torch.device) -> int:
    """Return the number of bytes that new tensors may take on a device.

    On a GPU, memory that this process has reserved but does not use counts as free.
    """
    if device.type != "cuda":
        # Most runs do not need this import.
        import psutil

        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _write(path: Path, key: str, array: ChunkedArray) -> str:
    """Write an .npy file, and return the sha256 of its values.

    The hash of the key, the time of the file, and the hash of the values follow the array; numpy
    ignores them.

    We do not write through a map, because a full disk would then kill the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"descr": "|u1", "fortran_order": False, "shape": array.shape}
    digest = hashlib.sha256()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for chunk in array.chunks:
            digest.update(chunk.data)
            file.write(chunk.data)
        written = int(time.time())
        file.write(_hash(key) + written.to_bytes(TIME_BYTES, "big") + digest.digest())
        file.flush()
        os.utime(temporary, (written, written))
    return digest.hexdigest()


def _read(path: Path, key: str) -> CachedArray | None:
    expected = _hash(key)
    try:
        with path.open("rb") as file:
            file.seek(-2 * len(expected) - TIME_BYTES, os.SEEK_END)
            if file.read(len(expected)) != expected:
                return None
            written = int.from_bytes(file.read(TIME_BYTES), "big")
            digest = file.read().hex()
        mapped = _map(path, digest)
        if mapped.array.nbytes <= MAX_BYTES_IN_MEMORY:
            mapped = CachedArray(np.array(mapped.array), None, digest)
        elif path.stat().st_mtime_ns == written * 10**9:
            return mapped
        if hashlib.sha256(mapped.array.data).hexdigest() != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(path, (written, written))
    except (OSError, ValueError, EOFError):
        return None
    return mapped


def _map(path: Path, digest: str) -> CachedArray:
    array = np.load(path, mmap_mode="r")
    return CachedArray(array, RowReader(array, path), digest)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
