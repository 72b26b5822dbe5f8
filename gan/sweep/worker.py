"""A process that trains one run after another: `python -m gan.sweep.worker`.

It reads a line of JSON for each task, `{"task": {...}}`, or `{"stop": NAME}`, from its standard
input, and writes its events in the same way. When its input ends, its parent is gone and it
ends at once: the last checkpoint is enough.
"""

import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from gan.errors import Interrupted, UserError

PROGRESS_EVERY = 0.5
"""Seconds between reports of a step at which nothing was logged."""


class Inbox:
    """What the parent sends, read as it comes."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.current: str | None = None
        self.stopped: set[str] = set()
        """Tasks to stop that have come, but not begun."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            with self.lock:
                if "task" in message:
                    self.stopped.clear()
                    self.tasks.put(message["task"])
                elif message["stop"] == self.current:
                    os.kill(os.getpid(), signal.SIGTERM)
                else:
                    # A signal outside a task would end the process.
                    self.stopped.add(message["stop"])
        os._exit(1)

    @contextmanager
    def working_at(self, name: str) -> Iterator[None]:
        """Within the block, a stop of this task comes as SIGTERM."""
        with self.lock:
            if name in self.stopped:
                raise Interrupted(f"{name}: stopped before it began", 128 + signal.SIGTERM)
            self.current = name
        try:
            yield
        finally:
            with self.lock:
                self.current = None


class Replies:
    """Events for the parent, on what was the standard output before runs took it over."""

    def __init__(self) -> None:
        self._file: TextIO = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def send(self, **event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")


def main() -> None:
    _die_with_parent()
    faulthandler.enable()
    replies, inbox = Replies(), Inbox()
    task = inbox.tasks.get()
    # Seconds: the first task waits for it, the next ones do not.
    import gan.train  # noqa: F401

    while True:
        healthy = _work(task, inbox, replies)
        if not healthy:
            # What an exception left behind, on a GPU above all, is no place for another run.
            sys.exit(1)
        task = inbox.tasks.get()


def _work(task: dict[str, Any], inbox: Inbox, replies: Replies) -> bool:
    """Run a task; False if this process should not be used again."""
    from omegaconf import OmegaConf

    from gan.progress import watched
    from gan.run_dir import LOG_FILE
    from gan.train import run

    name, run_dir = task["name"], Path(task["run_dir"])
    last = 0.0

    def tell(step: int, total: int, record: dict[str, Any] | None) -> None:
        nonlocal last
        if record is not None or time.monotonic() - last > PROGRESS_EVERY:
            last = time.monotonic()
            replies.send(event="progress", name=name, step=step, total=total, record=record)

    replies.send(event="started", name=name)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with _redirected(run_dir / LOG_FILE), watched(tell), inbox.working_at(name):
            objective = run(OmegaConf.create(task["config"]), run_dir, overrides=task["overrides"])
        ended: dict[str, Any] = {"status": _status(run_dir), "objective": objective}
    except Interrupted as error:
        ended = {"status": "interrupted", "reason": str(error)}
    except UserError as error:
        ended = {"status": "refused", "reason": str(error)}
    except Exception as error:
        ended = {"status": "raised", "reason": _line(error)}
    replies.send(event="ended", name=name, **ended)
    return bool(ended["status"] != "raised")


def _line(error: BaseException) -> str:
    # Hydra wraps what a target raised in a longer story, which is in the log.
    while error.__cause__:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _status(run_dir: Path) -> str:
    from gan.results import read_result

    result = read_result(run_dir)
    assert result is not None
    return str(result["status"])


@contextmanager
def _redirected(path: Path) -> Iterator[None]:
    """Standard output and error, of native code too, go into a file; so does an exception."""
    saved = os.dup(2)
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def point_at(target: int) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(target, 1)
        os.dup2(target, 2)

    point_at(file)
    try:
        yield
    except UserError as error:
        print(error, file=sys.stderr)
        raise
    except Exception:
        traceback.print_exc()
        raise
    finally:
        point_at(saved)
        os.close(file)
        os.close(saved)


def _die_with_parent() -> None:
    """The end of the input tells of the parent's death as well, but a thread must read it."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    main()
