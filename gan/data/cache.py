"""Arrays that take long to make, kept in a file."""

import contextlib
import hashlib
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock

from gan.files import replacing

Arrays = dict[str, np.ndarray]


def cached(path: Path, key: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of `path`, or new ones, kept there, if it is missing, damaged or has another key.

    Of several processes one makes them. Where `path` cannot be written they are made each time.
    """
    with alone(path):
        arrays = _read(path, key)
        if arrays is None:
            arrays = make()
            _save(path, key, arrays)
    return arrays


def alone(path: Path) -> AbstractContextManager[object]:
    """Of several processes one at a time may make what is kept at `path`."""
    place = hashlib.sha256(f"{Path.home()} {path.resolve()}".encode()).hexdigest()
    # Not beside `path`: a lock leaves a file.
    return FileLock(Path(tempfile.gettempdir(), f"gan-{place[:16]}.lock"))


def _read(path: Path, key: str) -> Arrays | None:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            if arrays["key"] != key:
                return None
            return {name: arrays[name] for name in arrays.files if name != "key"}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _save(path: Path, key: str, arrays: Arrays) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, key=np.array(key), **arrays)
