"""One attempt at a run in a process of its own, and what launchers need to follow it."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan.errors import Busy, Interrupted, UserError
from gan.launchers.base import Progress
from gan.launchers.followers import with_followers
from gan.run.attempt import Attempt, Ending, ending_of
from gan.run.directory import LOG_FILE, METRICS_FILE
from gan.run.result import Record, Status, whole_lines
from gan.system.files import open_file
from gan.system.startup import start_program

if TYPE_CHECKING:
    from gan.run.progress import OnProgress

LOCK_PATIENCE = 60.0
"""Seconds to wait for a run's lock that a dying machine may still hold."""


def execute(
    attempt: Attempt,
    on_progress: "OnProgress | None" = None,
    *,
    patience: float = 0.0,
    processes: int = 1,
) -> Ending:
    """Train or continue a run in this process. What is printed goes into the run's log.

    Args:
        on_progress: is told the progress.
        patience: seconds to wait for another process to leave the run directory.
        processes: the number of processes that train the run together, this one included.
    """
    start_program(encoding="utf-8")
    # These imports take seconds. Where a process is used again, only its first run waits for them.
    from gan.config.checks import as_config, checked
    from gan.distributed.shared import rehearsal
    from gan.run.run import Run
    from gan.train import train

    deadline = time.monotonic() + patience
    try:
        with redirected_output(attempt.run_dir), with_followers(processes):
            cfg = checked(as_config(attempt.config))
            while True:
                try:
                    opened = Run.open(
                        cfg,
                        attempt.run_dir,
                        attempt.overrides,
                        choices=attempt.choices,
                        on_progress=on_progress or _ignore,
                        check=rehearsal(),
                    )
                    break
                except Busy:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)
            with opened as run:
                if not run.finished:
                    with run.active():
                        train(run)
        assert run.result is not None
        return Ending(Status(run.result["status"]), run.objective)
    except (Interrupted, Exception) as error:
        return ending_of(error)


def place_config(config: dict[str, Any], threads: int, *, one_gpu: bool) -> dict[str, Any]:
    """Return `config` with the threads and the device of the slot that the run gets.

    Args:
        one_gpu: the run sees one GPU only, whatever its number is.
    """
    if one_gpu and config["device"].startswith("cuda"):
        config = config | {"device": "cuda"}
    return config | {"threads": config["threads"] or threads}


@contextmanager
def redirected_output(run_dir: Path) -> Iterator[None]:
    """Send standard output and error, of native code too, and an exception to the run's log."""
    run_dir.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    file = os.open(run_dir / LOG_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

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


class RunFollower:
    """Follows a run from outside by the records that it writes.

    A run that goes on from a checkpoint writes some records again. They are returned once.
    """

    def __init__(self, attempt: Attempt):
        self._attempt = attempt
        self._offset = 0
        """The place in the file behind the last line that was read."""
        self._last = b""
        """That line."""
        self._step = 0

    def new_progress(self) -> list[Progress]:
        """Return what the run has logged since the last call."""
        found = [record for _, record in whole_lines(self._new_lines())]
        records = [record for record in found if record["step"] > self._step]
        if not records:
            return []
        self._step = records[-1]["step"]
        trainer = self._attempt.config["trainer"]
        return [
            Progress(self._attempt.name, record["step"], _total_steps(trainer, record), record)
            for record in records
        ]

    def _new_lines(self) -> bytes:
        """Return the lines since the last call, or all if the run has taken some of them back."""
        try:
            with open_file(self._attempt.run_dir / METRICS_FILE) as file:
                file.seek(self._offset - len(self._last))
                content = file.read()
                if not content.startswith(self._last):
                    self._offset, self._last = 0, b""
                    file.seek(0)
                    content = file.read()
        except FileNotFoundError:
            return b""
        new = content[len(self._last) : content.rfind(b"\n") + 1]
        if new:
            self._offset += len(new)
            self._last = new.splitlines(keepends=True)[-1]
        return new


def newest_checkpoint(run_dir: Path) -> str:
    """Return the name of the newest checkpoint; an empty text where there is none."""
    return max((path.name for path in (run_dir / "checkpoints").glob("step-*.pt")), default="")


def _total_steps(trainer: dict[str, Any], record: Record) -> int:
    if trainer["max_steps"] is not None:
        return int(trainer["max_steps"])
    total: int = round(trainer["max_epochs"] * record["step"] / record["epoch"])
    return total


def _ignore(step: int, total: int, record: dict[str, Any] | None) -> None:
    pass
