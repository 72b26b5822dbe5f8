"""One attempt at a run, in whatever process was found for it."""

import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gan.errors import Busy, Interrupted, UserError, first_line
from gan.run.progress import Watch, watched

LOCK_PATIENCE = 60.0
"""Seconds in which a run's lock gets free that a dying machine still holds."""


def attempt(
    config: dict[str, Any],
    run_dir: Path,
    overrides: Sequence[str],
    watch: Watch,
    *,
    within: AbstractContextManager[None] | None = None,
    patience: float = 0.0,
) -> dict[str, Any]:
    """Train, or continue, with what is printed going into the run's log.

    Args:
        watch: is told of every step.
        within: entered for the training alone.
        patience: seconds to wait for another process to leave `run_dir`.

    Returns:
        The fields of a gan.launchers.pool.Ended, less the name.
    """
    # Where processes are used again, the first run alone waits seconds for it.
    from omegaconf import OmegaConf

    from gan.run.directory import LOG_FILE
    from gan.run.result import read_result
    from gan.train import run

    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with _redirected(run_dir / LOG_FILE), watched(watch), within or nullcontext():
            cfg, deadline = OmegaConf.create(config), time.monotonic() + patience
            while True:
                try:
                    objective = run(cfg, run_dir, overrides=overrides)
                    break
                except Busy:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)
        result = read_result(run_dir)
        assert result is not None
        return {"status": str(result["status"]), "objective": objective}
    except (Interrupted, Exception) as error:
        if isinstance(error, Busy) and patience:
            return {"status": "lost", "reason": str(error)}
        return fault(error)


def fault(error: Interrupted | Exception) -> dict[str, Any]:
    """What a gan.launchers.pool.Ended says of a run that ended in an exception."""
    if isinstance(error, Interrupted):
        return {"status": "interrupted", "reason": str(error)}
    if isinstance(error, UserError):
        return {"status": "refused", "reason": str(error)}
    return {"status": "raised", "reason": first_line(error)}


def placed(config: dict[str, Any], threads: int, *, one_gpu: bool) -> dict[str, Any]:
    """The configuration of a run in a place with so many threads; `one_gpu` if the place
    shows it no other."""
    if one_gpu and config["device"].startswith("cuda"):
        config = config | {"device": "cuda"}
    return config | {"threads": config["threads"] or threads}


@contextmanager
def _redirected(path: Path) -> Iterator[None]:
    """Standard output and error, of native code too, go into a file; so does an exception."""
    saved = os.dup(1), os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def point_at(*targets: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, target in enumerate(targets, start=1):
            os.dup2(target, number)

    point_at(file, file)
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        raise
    except Exception:
        traceback.print_exc()
        raise
    finally:
        point_at(*saved)
        for opened in (file, *saved):
            os.close(opened)
