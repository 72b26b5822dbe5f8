"""Kills at every file operation of a process, one after the other.

A child process does some work on the files below a folder, and is killed at its n-th operation:
before it opens, renames, removes, makes or syncs something, in the middle of a write, or before a
database commits. Another child does the same work again, as a user would.

As a program this walks over all kill points of one kind of work, and prints how many there were:

    python tests/kill_points.py run FOLDER [EVERY]
"""

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf
from runs import content
from sweep_commands import TINY, compose_sweep

from gan.config.compose import compose
from gan.launchers.base import Ended, Event, Launcher, Started
from gan.run.attempt import Attempt, Ending
from gan.run.length import with_length
from gan.run.result import Status, read_result
from gan.sweep.directory import read_sweep
from gan.sweep.search import run_search
from gan.sweep.sweep import Candidates, in_launcher, run_sweep
from gan.train import run

Work = Callable[[Path], None]
"""A function that does some work on the files below a folder, or what is left of it."""

RUN = (
    *TINY,
    "trainer.max_steps=7",
    "trainer.checkpoint_every=3",
    "logging.every=2",
    "metrics.every=4",
    "logging.samples_every=4",
    "logging.tensorboard=true",
)
SHORT = (*TINY, "trainer.max_steps=2")
POINTS = [[*SHORT, "optimizer.lr=1e-4"], [*SHORT, "optimizer.lr=2e-4"]]
SEARCH = ("hydra/sweeper=optuna", "hydra.sweeper.sampler=grid", "hydra.sweeper.n_trials=2")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ["rename", "remove", "mkdir", "rmdir", "chmod", "truncate", "link", "symlink", "utime"]
"""Events of Python's audit hooks that change a file system."""


class Counter:
    """Counts the file operations of this process below a folder, and ends it at one of them."""

    def __init__(self, folder: Path, number: int):
        self.folder, self.number, self.count = str(folder.resolve()), number, 0
        self.is_paused = False

    def is_last(self, path: object) -> bool:
        """Count an operation; return whether it is the one to die at."""
        if self.is_paused or not os.path.realpath(_text(path)).startswith(self.folder):
            return False
        self.count += 1
        return self.count == self.number

    def note(self, path: object) -> None:
        """Count an operation, and die before it is done if it is the one."""
        if self.is_last(path):
            die()

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Count what Python tells its audit hooks."""
        if event.removeprefix("os.") in CHANGES or (
            event == "open" and (arguments[2] or 0) & WRITES
        ):
            self.note(arguments[0])


counter: Counter | None = None


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def count_operations(folder: Path, number: int) -> None:
    """Count the operations of this process from now on, and let it die at that number."""
    global counter
    counted = counter = Counter(folder, number)
    sys.addaudithook(counted.audit)

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            if counted.is_last(self.name):
                super().write(memoryview(data)[: len(data) // 2])
                die()
            return super().write(data)

        def truncate(self, size: int | None = None) -> int:
            counted.note(self.name)
            return super().truncate(size)

    def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return plain_open(file, mode, buffering, *rest, **named)
        raw = File(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **named)

    def fsync(file: int) -> None:
        counted.note(f"/proc/self/fd/{file}")
        plain_fsync(file)

    plain_open, plain_fsync = io.open, os.fsync
    vars(io)["open"] = opened
    vars(sys.modules["builtins"])["open"] = opened
    vars(os)["fsync"] = fsync
    # Files are then copied by reading and writing.
    vars(shutil)["_USE_CP_SENDFILE"] = False


def _text(path: object) -> str:
    if isinstance(path, int):
        return f"/proc/self/fd/{path}"
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""


def in_child(work: Work, folder: Path, number: int = 0) -> int | None:
    """Do some work in a child process that dies at an operation of that number.

    Returns:
        The number of its operations; None if it was killed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            log = os.open(folder.parent / "child.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(log, stream)
            count_operations(folder, number)
            try:
                work(folder)
                assert counter
                os.write(writer, str(counter.count).encode())
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return None
    assert status == 0, (folder.parent / "child.log").read_text()[-4000:]
    return int(said)


class HereLauncher(Launcher):
    """Trains one run after the other in the parent process, whose operations then do not count."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: list[Attempt] = []
        self._running: Attempt | None = None

    def threads_per_run(self, device: str, runs: int) -> int:
        """Return 1."""
        return 1

    def max_running(self, device: str, threads: int) -> int:
        """Return 1."""
        return 1

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """Get ready."""

    def submit(self, attempt: Attempt) -> None:
        """Put an attempt into the queue."""
        self._queue.append(attempt)

    def wait(self, timeout: float) -> Event | None:
        """Return the start of the next attempt, then its end."""
        if self._running is None:
            self._running = self._queue.pop(0)
            return Started(self._running.name)
        attempt, self._running = self._running, None
        with uncounted():
            cfg = OmegaConf.create(attempt.config)
            value = run(cfg, attempt.run_dir, overrides=attempt.overrides, choices=attempt.choices)
        return Ended(attempt.name, Ending(Status.COMPLETED, value))

    def stop(self, name: str) -> None:
        """Do nothing."""

    prune = kill = stop

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def uncounted() -> Iterator[None]:
    """Let the operations within the block not count."""
    if counter:
        counter.is_paused = True
    yield
    if counter:
        counter.is_paused = False


def train_run(folder: Path) -> None:
    """Train one run with everything that a run writes."""
    run(composed(), folder, overrides=["optimizer.lr=2e-4"])


def train_longer(folder: Path) -> None:
    """Train a run that has ended, and did not count, to more steps."""
    if not (folder / "config.yaml").exists():
        with uncounted():
            train_run(folder)
    run(with_length(composed(), max_steps=11), folder, extend=True)


def train_grid(folder: Path) -> None:
    """Train a grid of two runs."""
    master, loader = composed_sweep(folder)
    run_sweep(master, loader, Candidates(POINTS), in_launcher(HereLauncher()))


def train_search(folder: Path) -> None:
    """Search among two points."""
    vars(sys.modules["gan.sweep.search"])["planning_launcher"] = lambda settings: HereLauncher()
    master, loader = composed_sweep(folder, *SEARCH)
    run_search(master, loader, [*SHORT, "optimizer.lr=1e-4,2e-4"])


@cache
def composed() -> DictConfig:
    """Return the configuration of the run."""
    return compose(*RUN)


@cache
def composed_sweep(folder: Path, *overrides: str) -> tuple[DictConfig, ConfigLoader]:
    """Return the configuration of a sweep in a folder, and the loader."""
    return compose_sweep(*SHORT, *overrides, f"hydra.sweep.dir={folder}")


WORKS: dict[str, Work] = {
    "run": train_run,
    "longer": train_longer,
    "grid": train_grid,
    "search": train_search,
}


def outcome(folder: Path) -> dict[str, object]:
    """Return what a run or a sweep must have in the end, whatever disturbed it."""
    sweep = read_sweep(folder) if (folder / "sweep.json").exists() else None
    run_dirs = [sweep.run_dir(name) for name in sweep.jobs] if sweep else [folder]
    found: dict[str, object] = {}
    for run_dir in run_dirs:
        result = read_result(run_dir)
        assert result
        kept = ("status", "objective", "final", "best", "steps")
        found[run_dir.name if sweep else ""] = {name: result[name] for name in kept}
        found |= {f"{run_dir.name if sweep else ''}/{k}": v for k, v in content(run_dir).items()}
    if sweep:
        lines = (folder / "jobs.jsonl").read_text().splitlines()
        found["plan"] = lines, sweep.swept, sweep.fixed, sweep.threads
        found["sources"] = sorted(
            (str(path.relative_to(folder)), path.read_bytes())
            for path in (folder / "conf").rglob("*")
            if path.is_file()
        )
    if sweep and sweep.search:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "study.jsonl")))
        study = optuna.load_study(study_name=None, storage=storage)
        found["trials"] = [(t.number, t.state, t.params, t.values) for t in study.get_trials()]
    leftovers = [path.name for path in folder.rglob(".*.gan-tmp")]
    assert not leftovers, f"left behind: {leftovers}"
    return found


def walk(kind: str, folder: Path, every: int = 1) -> int:
    """Kill some work at each operation, do it again, and compare; return the number of kills.

    Args:
        folder: an empty folder.
        every: 10 takes every tenth operation.
    """
    work = WORKS[kind]
    # What is imported and composed here need not be in each child.
    work(folder / "warm")
    undisturbed = folder / "undisturbed"
    operations = in_child(work, undisturbed)
    assert operations
    expected = outcome(undisturbed)
    kills = 0
    for number in range(operations, 0, -every):
        disturbed = folder / f"killed-{number}"
        # Some operations, such as those of threads, may come a little earlier or later.
        if in_child(work, disturbed, number) is not None:
            continue
        kills += 1
        in_child(work, disturbed)
        found = outcome(disturbed)
        differing = [key for key in expected | found if expected.get(key) != found.get(key)]
        assert not differing, f"{kind}, killed at operation {number}: {differing}"
        shutil.rmtree(disturbed)
    return kills


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path(sys.argv[2]).mkdir(parents=True)
    print(walk(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])), "kills, all made good")
