"""Locks between processes, on file systems with and without flock."""

import errno
import os
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

WITHOUT_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of a file system that knows no flock."""
ON_WINDOWS = os.name == "nt"
"""Windows has no flock, and other locks instead."""
LOOK_SECONDS = 0.2
"""Seconds within which a process that only looks at a lock lets it go."""


def lock_at(path: Path) -> BaseFileLock:
    """Return a lock, still to be acquired, for which the file `path` stands.

    The system frees the lock of a process that dies. Without flock, a file beside `path` names the
    process that holds the lock, and only other processes of that machine can see that it died.

    Raises:
        OSError: the file cannot be written.
    """
    if ON_WINDOWS or _try_lock(path, os.O_RDWR | os.O_CREAT) not in WITHOUT_FLOCK:
        return FileLock(path)
    return SoftFileLock(_holder_file(path))


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock. With flock, nothing is written to find out."""
    if ON_WINDOWS:
        return path.exists() and _is_held(FileLock(path))
    try:
        problem = _try_lock(path, os.O_RDONLY)
    except OSError:
        return False
    if problem not in WITHOUT_FLOCK or not _holder_file(path).exists():
        return problem in (errno.EWOULDBLOCK, errno.EACCES)
    return _is_held(SoftFileLock(_holder_file(path)))


def way_to_free(lock: BaseFileLock) -> str:
    """Return advice on a lock that cannot be had, to end a message; the system frees most alone."""
    return f"; if none is, remove {lock.lock_file}" if isinstance(lock, SoftFileLock) else ""


def _is_held(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


def _holder_file(path: Path) -> Path:
    # Not `path` itself: a directory that comes from elsewhere may hold that file of a free lock.
    return path.with_name(f"{path.name}.held")


def _try_lock(path: Path, flags: int) -> int:
    """Return 0 if nobody holds the lock of a file, else the number of the error."""
    import fcntl

    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        # A shared lock, so that several processes may look at the same time.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.close(handle)
    return 0
