"""Files that are either complete or not there."""

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

import yaml

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fastest loader of YAML that makes plain data alone; not every build of yaml has it."""
DAY = 24 * 60 * 60.0
"""Seconds after which a temporary file that nobody writes to belongs to a process that died."""
_SUFFIX = ".gan-tmp"
"""The ending of temporary files, which no other program's have."""
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.gan-tmp")
"""The name of a temporary file, with that of the file that it was to become."""


def expanded(path: str) -> str:
    """Return a path with the home directory for a ~ at its beginning, as a shell would."""
    # A folder may have the name ~x where there is no user x.
    with suppress(RuntimeError):
        return str(Path(path).expanduser()) if path.startswith("~") else path
    return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move it there if the block ends without an error.

    The content is written to the disk before the name changes. After a power cut there is either
    the old file or the new one.
    """
    _tidy(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path):
            yield temporary
            sync(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which is removed in the end."""
    _tidy(path.parent)
    with tempfile.TemporaryDirectory(
        prefix=f".{path.name}.", suffix=_SUFFIX, dir=path.parent
    ) as name:
        yield Path(name)


def remove_leftovers(
    folder: Path, age: float = 0.0, is_own: Callable[[str], bool] = lambda name: True
) -> None:
    """Remove temporary files and folders in `folder` that processes left behind as they died.

    Args:
        age: the seconds for which nobody has written to them. 0 is for files that no other process
            may write.
        is_own: tells by the name of a file if its temporary ones may be removed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            found = _TEMPORARY.fullmatch(entry.name)
            if not (found and is_own(found[1])):
                continue
            # Another process may remove them at the same time.
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime < age:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry)
                else:
                    Path(entry).unlink()


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which would be waited for for ever.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, see `open_file`."""
    with open_file(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """Return the content of a file in UTF-8, see `read_bytes`."""
    return read_bytes(path).decode()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, or leave the old one if writing fails."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write a file in UTF-8, or leave the old one if writing fails. See `readable`."""
    write_bytes(path, readable(content).encode())


def append_text(path: Path, text: str) -> None:
    """Append to a file in UTF-8, and wait until it is on the disk.

    A process that is killed meanwhile leaves a part of the text.
    """
    with _named(path), path.open("ab") as file:
        file.write(readable(text).encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an error of the system that names none, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def readable(text: str) -> str:
    """Return a text that UTF-8 can hold.

    The names of files may have bytes that are no UTF-8. Python keeps each as half a character, in
    whose place its code comes, such as \\udcff.
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def sync(path: Path) -> None:
    """Wait until a file, or the list of names in a directory, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@cache
def _tidy(folder: Path) -> None:
    """Remove old leftovers from a folder once in each process, as listing large folders is slow."""
    with suppress(OSError):
        remove_leftovers(folder, DAY)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
