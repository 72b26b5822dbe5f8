"""Cache files for arrays that take long to compute."""

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import Timeout

from gan.system.files import replacing
from gan.system.locks import LOOK_SECONDS, lock_at, way_to_free

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
"""Arrays by name."""


def cached_arrays(path: Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored in the file `path`.

    If the file is missing, damaged or altered, or was stored with another key, `make` is called and
    its result is stored. If several processes need the arrays at once, only one of them calls
    `make`. If `path` cannot be written, every call makes the arrays again.
    """
    with lock_for(path):
        arrays = _read(path, key)
        if arrays is None:
            arrays = make()
            _save(path, key, arrays)
    return arrays


@contextlib.contextmanager
def lock_for(path: Path) -> Iterator[None]:
    """Hold a lock between processes in the block. Its holder alone may make what is at `path`."""
    place = hashlib.sha256(os.fsencode(f"{Path.home()} {path.resolve()}")).hexdigest()
    # The lock leaves a file behind, so it does not lie beside `path`.
    lock = lock_at(Path(tempfile.gettempdir(), f"gan-{place[:16]}.lock"))
    try:
        lock.acquire(timeout=LOOK_SECONDS)
    except Timeout:
        log.info("%s: waiting for another process that makes it%s", path, way_to_free(lock))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(path: Path, key: str) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files if name != "key"}
            return arrays if stored["key"] == _checksum(key, arrays) else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(path: Path, key: str, arrays: Arrays) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            checksum = np.array(_checksum(key, arrays))
            np.savez(file, allow_pickle=False, key=checksum, **arrays)


def _checksum(key: str, arrays: Arrays) -> str:
    """Return a hash of the key and of all arrays, so that what was altered is not believed."""
    digest = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
