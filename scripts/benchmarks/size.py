"""Time sweeps of several sizes, whose runs are made up: to plan, search, resume and compare."""

import hashlib
import io
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from benchmarks.made_up import curve, write_run
from benchmarks.timing import timing_table
from gan.config.schema import CONF_DIR
from gan.launchers.base import Ended, Event, Launcher, Progress, Started
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status

STEPS = 300
"""The length that the runs seem to have."""
FIXED = ("data=digits", f"trainer.max_steps={STEPS}", "threads=1")
"""Overrides of all runs."""
SPACE = ("optimizer.lr=tag(log,interval(1e-5,1e-2))", "model.hidden_dim=range(16,257)")
"""The space of the searches."""


class Use(NamedTuple):
    """The resources that a process took."""

    wall: float
    cpu: float
    peak: float
    """Megabytes of memory at most."""

    def __str__(self) -> str:
        return f"{self.wall:.1f} ({self.cpu:.1f})"


class PerRun(NamedTuple):
    """Milliseconds of bookkeeping for each run, wall time and CPU."""

    first: tuple[float, float]
    """Means over the first tenth of the runs."""
    last: tuple[float, float]
    """Means over the last tenth of the runs."""
    peak: float


def time_sizes(*, runs: int) -> None:
    """Print the costs of sweeps of `runs` runs, of a tenth and of a hundredth, and of searches of
    half as many trials.
    """
    sizes = sorted({max(1, runs // 100), max(1, runs // 10), runs})
    columns = ["runs", "plan s", "MB", "found finished s", "MB", "compare s", "MB"]
    sweeps = timing_table(columns, title="wall seconds (CPU), and memory at most")
    columns = ["", "first tenth ms", "last tenth ms", "MB"]
    each = timing_table(columns, title="bookkeeping for each run, wall (CPU), and memory at most")
    for count in sizes:
        with TemporaryDirectory() as folder:
            path = Path(folder, "sweep")
            grid = ["--multirun", *FIXED, f"seed=range({count})", f"hydra.sweep.dir={path}"]
            plan = _command("train", *grid, "sweep.dry_run=true")
            cost = _in_child(_run_grid, path, count)
            each.add_row(f"grid of {count:,} runs", *_cells(cost))
            found = _command("resume", str(path))
            compared = _command("compare", str(path))
        cells = [cell for use in (plan, found, compared) for cell in (str(use), f"{use.peak:.0f}")]
        sweeps.add_row(f"{count:,}", *cells)
    for sampler in ("random", "tpe"):
        for count in (max(1, size // 2) for size in sizes):
            with TemporaryDirectory() as folder:
                cost = _in_child(_run_search, Path(folder, "sweep"), count, sampler)
            each.add_row(f"search of {count:,} trials, {sampler}", *_cells(cost))
    console = Console()
    console.print(sweeps)
    console.print(each)


class MadeUpLauncher(Launcher):
    """Writes the files of one run after the other, and times what happens in between."""

    def __init__(self, width: int):
        super().__init__()
        self._width = width
        self._queue: deque[Attempt] = deque()
        self._events: deque[Event] = deque()
        self._left: tuple[float, float] | None = None
        self._since = [0.0, 0.0]
        self.costs: list[tuple[float, float]] = []
        """Seconds of wall time and of CPU that the sweep took between the ends of two runs."""

    def threads_per_run(self, device: str, runs: int) -> int:
        """Return 1."""
        return 1

    def max_running(self, device: str, threads: int) -> int:
        """Return the number of runs at a time."""
        return self._width

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """Get ready."""

    def submit(self, attempt: Attempt) -> None:
        """Put an attempt into the queue."""
        self._queue.append(attempt)

    def wait(self, timeout: float) -> Event | None:
        """Return the next event of the run whose turn it is."""
        if self._left is not None:
            self._since[0] += time.perf_counter() - self._left[0]
            self._since[1] += time.process_time() - self._left[1]
        if not self._events:
            self._write_next()
        event = self._events.popleft()
        if isinstance(event, Started):
            # The cost of a run goes from the end of the one before to its own.
            self.costs.append((self._since[0], self._since[1]))
            self._since = [0.0, 0.0]
        self._left = time.perf_counter(), time.process_time()
        return event

    def stop(self, name: str) -> None:
        """Do nothing."""

    prune = kill = stop

    def close(self) -> None:
        """Do nothing."""

    def _write_next(self) -> None:
        attempt = self._queue.popleft()
        # A value that looks random and is always the same.
        value = int(hashlib.sha256(attempt.name.encode()).hexdigest()[:8], 16) / 2**32
        records = curve(value)
        objective = write_run(attempt.run_dir, attempt.config, attempt.overrides, records)
        self._events.append(Started(attempt.name))
        self._events.append(Progress(attempt.name, STEPS, STEPS, records[-1]))
        self._events.append(Ended(attempt.name, Ending(Status.COMPLETED, objective)))


def _cells(cost: PerRun) -> list[str]:
    tenths = [f"{wall:.1f} ({cpu:.1f})" for wall, cpu in (cost.first, cost.last)]
    return [*tenths, f"{cost.peak:.0f}"]


def _command(name: str, *arguments: str) -> Use:
    """Run a command of this program, and return the resources that it took."""
    script = str(Path(__file__).parent.with_name(f"{name}.py"))
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return Use(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _in_child(work: Callable[..., None], *arguments: object) -> PerRun:
    """Call `work` in a process of its own, so that its memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        cost: PerRun = ours.recv()
    finally:
        process.join()
    return cost


def _run_grid(pipe: Connection, path: Path, count: int) -> None:
    from gan.sweep.sweep import Candidates, in_launcher, run_sweep

    launcher = MadeUpLauncher(width=2)
    master, loader = _compose(path)
    points = [[*FIXED, f"seed={seed}"] for seed in range(count)]
    with redirect_stdout(io.StringIO()):
        run_sweep(master, loader, Candidates(points), in_launcher(launcher))
    pipe.send(_per_run(launcher))


def _run_search(pipe: Connection, path: Path, count: int, sampler: str) -> None:
    from gan.sweep import search

    launcher = MadeUpLauncher(width=2)
    vars(search)["planning_launcher"] = lambda settings: launcher
    settings = (f"hydra.sweeper.n_trials={count}", f"hydra.sweeper.sampler={sampler}")
    master, loader = _compose(path, "hydra/sweeper=optuna", *settings)
    with redirect_stdout(io.StringIO()):
        search.run_search(master, loader, [*FIXED, *SPACE])
    pipe.send(_per_run(launcher))


def _compose(path: Path, *overrides: str) -> tuple[DictConfig, ConfigLoader]:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        words = [*FIXED, f"hydra.sweep.dir={path}", *overrides]
        master = hydra.compose_config("config", words, run_mode=RunMode.MULTIRUN)
        return master, hydra.config_loader


def _per_run(launcher: MadeUpLauncher) -> PerRun:
    tenth = max(1, len(launcher.costs) // 10)

    def means(costs: list[tuple[float, float]]) -> tuple[float, float]:
        wall, cpu = (1000 * statistics.mean(values) for values in zip(*costs, strict=True))
        return wall, cpu

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # Before the first run there is no end of another one to count from.
    costs = launcher.costs[1:] or launcher.costs
    return PerRun(means(costs[:tenth]), means(costs[-tenth:]), peak)
