"""The directory of one run: who works in it, and whose configuration it belongs to."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import defines_result, flatten
from gan.errors import Busy, UserError
from gan.files import write_text

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
OVERRIDES_FILE = "overrides.yaml"
LOCK_FILE = ".lock"
LOG_FILE = "train.log"
REAL_FILE = "real.png"
"""In samples/: real images in the same arrangement."""


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Make the directory and keep other processes out of it; what is still empty at the end
    is removed. The lock of a process that died is free.

    Raises:
        Busy: another process works in it.
    """
    created = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / LOCK_FILE)
    try:
        # Long enough for whoever only looks whether it is held.
        lock.acquire(timeout=0.2)
    except Timeout:
        raise Busy(f"{run_dir}: another process is at work in this run directory") from None
    try:
        yield
    finally:
        if not (run_dir / CONFIG_FILE).exists():
            for name in (LOCK_FILE, OVERRIDES_FILE):
                (run_dir / name).unlink(missing_ok=True)
        lock.release()
        remove_empty(run_dir, created)


def in_use(run_dir: Path) -> bool:
    """Whether a process holds the lock of a directory; nothing is written to find out."""
    # Windows has none, and needs none to train.
    import fcntl

    try:
        handle = os.open(run_dir / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared, so that several may look at the same time.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(handle)
    return False


def remove_empty(run_dir: Path, created: Sequence[Path] = ()) -> None:
    """Remove a run directory with nothing in it, and the given folders above it likewise."""
    for path in (run_dir, *created):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def read_config(run_dir: Path) -> DictConfig:
    """The resolved configuration of a run.

    Raises:
        UserError: the directory is not a run's.
    """
    path = run_dir / CONFIG_FILE
    if not path.exists():
        raise UserError(f"{run_dir}: not a run directory, it has no {CONFIG_FILE}")
    cfg = OmegaConf.load(path)
    assert isinstance(cfg, DictConfig)
    return cfg


def read_overrides(run_dir: Path) -> list[str]:
    """The command line that a run began with."""
    return [str(override) for override in OmegaConf.load(run_dir / OVERRIDES_FILE)]


def settle_config(
    run_dir: Path, cfg: DictConfig, overrides: Sequence[str], threads: int
) -> DictConfig:
    """Save the configuration of a new run.

    Returns:
        `cfg` with the number of threads the run began with: rounding depends on it.
    """
    known = (run_dir / CONFIG_FILE).exists()
    settled = OmegaConf.merge(cfg, {"threads": read_config(run_dir).threads if known else threads})
    assert isinstance(settled, DictConfig)
    if not known:
        write_text(run_dir / OVERRIDES_FILE, OmegaConf.to_yaml(list(overrides)))
        write_text(run_dir / CONFIG_FILE, OmegaConf.to_yaml(settled, resolve=True))
    return settled


def refuse_other_config(run_dir: Path, cfg: DictConfig) -> None:
    """
    Raises:
        UserError: the directory holds a run that this configuration would not continue.
    """
    if not (run_dir / CONFIG_FILE).exists():
        return
    old, new = flatten(read_config(run_dir)), flatten(cfg)
    for name in old | new:
        if defines_result(name) and old.get(name) != new.get(name):
            raise UserError(
                f"{run_dir}: its run has {name}={old.get(name)}, not {new.get(name)}; "
                "choose another hydra.run.dir, or the same configuration to continue it"
            )
