"""Strategies to train many runs in one process, ready to be timed."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import Steps, wait_for
from gan.build import build, find_device
from gan.config.compose import compose
from gan.data import Data
from gan.functional.compiled import CAPTURE_WARM_UP, make_compiled_step
from gan.functional.tensors import named_tensors
from gan.run.run import Run
from gan.run.state import initial_state
from gan.step import Step, eager_step
from gan.train import train_one_step
from gan.vectorized.cohort import memory_limit, take_eager_step
from gan.vectorized.run_set import RunSet
from gan.vectorized.sequential import SequentialRuns
from gan.vectorized.stacked import StackedRuns

SEQUENTIAL, TOGETHER = "one after another", "together"
"""Names of the two strategies that every device and torch has."""

Strategy = Callable[[list["BareRun"]], Steps]
"""A function that prepares runs and returns steps of all of them."""


class BareRun(Run):
    """A run without a directory, before its first step. It stops when it is told to."""

    def __init__(self, cfg: DictConfig, data: Data):
        cfg = deepcopy(cfg)
        cfg.threads = cfg.threads or torch.get_num_threads()
        super().__init__(cfg, Path())
        self.parts = build(cfg, data)
        self.state = initial_state(self.parts, cfg.seed)
        self.batches = self.parts.data.batches(cfg.trainer.batch_size, cfg.seed)
        self.total_steps = sys.maxsize
        self.last_step = sys.maxsize
        self.schedules = {}

    @property
    def something_due(self) -> bool:
        """The last step is made."""
        return self.step >= self.last_step

    @contextmanager
    def active(self) -> Iterator[None]:
        """Leave everything as it is."""
        yield


class Prepared(NamedTuple):
    """Runs that are prepared for timing."""

    steps: Steps
    runs: int
    memory: int
    """Bytes that they take on the device, without the data."""
    seconds: float
    """Seconds that the preparation took: those of the first steps beyond those of later ones."""


def make_configs(
    *, count: int, model: str, data: str, hidden_dim: int, device: str
) -> list[DictConfig]:
    """Return configurations of the lab's recipe that differ in seed and learning rate.

    Args:
        hidden_dim: set if the model has such a key.
    """
    recipe = ["experiment=lab", f"model={model}", f"data={data}", f"device={device}"]
    cfg = compose(*recipe)
    if "hidden_dim" in cfg.model:
        cfg = compose(*recipe, f"model.hidden_dim={hidden_dim}")
    cfgs = [deepcopy(cfg) for _ in range(count)]
    for index, each in enumerate(cfgs):
        each.seed, each.optimizer.lr = index, cfg.optimizer.lr * 2 ** (index / count)
    return cfgs


def strategies(*, compile: bool, cuda: bool) -> dict[str, Strategy]:
    """Return all strategies by name."""
    named: dict[str, Strategy] = {SEQUENTIAL: sequential, TOGETHER: _together()}
    if cuda:
        named[f"{TOGETHER}, graphs"] = _together(capture=True)
    if compile:
        named[f"{SEQUENTIAL}, compiled"] = lambda runs: _steps_of(
            SequentialRuns(runs, compile=True)
        )
        named[f"{TOGETHER}, compiled"] = _together(compile=True)
    if compile and cuda:
        named[f"{TOGETHER}, compiled, graphs"] = _together(compile=True, capture=True)
    return named


def prepare(strategy: Strategy, cfgs: Sequence[DictConfig], data: Data) -> Prepared:
    """Build runs of these configurations, make their first steps and measure their memory.

    Raises:
        NotSupported, RunFailed, MemoryError, RuntimeError: this strategy cannot train the runs.
    """
    device = find_device(cfgs[0].device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if cuda else 0
    runs = start_runs(cfgs, data)
    start = time.perf_counter()
    steps = strategy(runs)
    steps(CAPTURE_WARM_UP + 1)
    first = time.perf_counter()
    steps(CAPTURE_WARM_UP + 1)
    seconds = 2 * first - start - time.perf_counter()
    if cuda:
        memory = torch.cuda.max_memory_allocated(device) - before
    else:
        memory = _state_bytes(runs) + _peak_bytes(steps)
    return Prepared(steps, len(runs), memory, max(seconds, 0.0))


def start_runs(cfgs: Sequence[DictConfig], data: Data) -> list[BareRun]:
    """Return runs without directories, before their first step."""
    return [BareRun(cfg, data) for cfg in cfgs]


def sequential(runs: Sequence[BareRun]) -> Steps:
    """Return steps of the runs one after another, each as if it were alone."""

    def steps(count: int) -> None:
        for run in runs:
            for _ in range(count):
                take_eager_step(run)
        wait_for(runs[0].parts.device)

    return steps


def alone(runs: Sequence[BareRun], *, cuda_graphs: bool) -> Steps:
    """Return steps of the first run by itself, as `scripts/train.py` makes them."""
    run = runs[0]
    step: Step = partial(eager_step, run.parts, run.state)
    if cuda_graphs:
        cfg = deepcopy(run.cfg)
        cfg.trainer.cuda_graphs = True
        step = make_compiled_step(cfg, run.parts, run.state)

    def steps(count: int) -> None:
        for _ in range(count):
            train_one_step(run, step)
        wait_for(run.parts.device)

    return steps


def _together(*, compile: bool = False, capture: bool = False) -> Strategy:
    def strategy(runs: list[BareRun]) -> Steps:
        # A GPU raises an error if memory runs out, but the CPU's system kills the process.
        if (most := memory_limit(runs[0])) < len(runs):
            raise MemoryError(f"there is memory for {most} at once")
        return _steps_of(StackedRuns(runs, compile=compile, capture=capture))

    return strategy


def _steps_of(run_set: RunSet) -> Steps:
    run_set.timer.is_measuring = False
    runs = [run for run in run_set.runs if isinstance(run, BareRun)]

    def steps(count: int) -> None:
        for run in runs:
            run.last_step = run.step + count
        while not all(run.something_due for run in runs):
            # SequentialRuns trains the first run of its list.
            run_set.runs.sort(key=lambda run: run.something_due)
            run_set.train(math.inf)
        wait_for(runs[0].parts.device)

    return steps


def _state_bytes(runs: Sequence[BareRun]) -> int:
    """Return the bytes of what training changes: weights, and the optimizers' state."""
    sizes = {}
    for run in runs:
        for tensor in named_tensors(run.parts, run.state).values():
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _peak_bytes(steps: Steps) -> int:
    """Return the most bytes that a step allocates on the CPU at one time.

    The gradients are among them, also those of the step before.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        # The profiler sees memory freed only if it also saw it allocated, so two steps are needed.
        steps(2)
    with TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    sizes: list[int] = [event["args"]["Bytes"] for event in changes]
    return max(accumulate(sizes))
