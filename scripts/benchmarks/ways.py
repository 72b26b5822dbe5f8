"""Ways to train members, set up and ready to be timed."""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from benchmarks.members import Steps, as_team, begin, in_turn, wait
from benchmarks.memory import held, passing
from gan.build import find_device
from gan.data import Data
from gan.functional.alone import stepper
from gan.functional.capture import WARM_UP
from gan.vectorized.member import Member
from gan.vectorized.memory import room
from gan.vectorized.sequential import InTurn
from gan.vectorized.stacked import Stacked

IN_TURN, TOGETHER = "one after another", "together"

Way = Callable[[list[Member]], Steps]


class Ready(NamedTuple):
    steps: Steps
    members: int
    memory: int
    """Bytes of the device's, the data not among them."""
    seconds: float
    """That it took to set up: first steps, less what such steps take later."""


def ready(way: Way, cfgs: Sequence[DictConfig], data: Data) -> Ready:
    """
    Raises:
        Unfit, Failed, MemoryError, RuntimeError: the members cannot be trained in this way.
    """
    device = find_device(cfgs[0].device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if cuda else 0
    members = begin(cfgs, data)
    begun = time.perf_counter()
    steps = way(members)
    steps(WARM_UP + 1)
    first = time.perf_counter()
    steps(WARM_UP + 1)
    seconds = 2 * first - begun - time.perf_counter()
    if cuda:
        memory = torch.cuda.max_memory_allocated(device) - before
    else:
        memory = held(members) + passing(steps)
    return Ready(steps, len(members), memory, max(seconds, 0.0))


def ways(*, compile: bool, cuda: bool) -> dict[str, Way]:
    """All that there are on such a device, by name."""
    found: dict[str, Way] = {IN_TURN: in_turn, TOGETHER: _together()}
    if cuda:
        found[f"{TOGETHER}, graphs"] = _together(capture=True)
    if compile:
        found[f"{IN_TURN}, compiled"] = lambda members: as_team(InTurn(members, compile=True))
        found[f"{TOGETHER}, compiled"] = _together(compile=True)
    if compile and cuda:
        found[f"{TOGETHER}, compiled, graphs"] = _together(compile=True, capture=True)
    return found


def alone(members: Sequence[Member], *, cuda_graphs: bool) -> Steps:
    """One run by itself."""
    running = members[0].running
    cfg = deepcopy(running.cfg)
    cfg.trainer.cuda_graphs = cuda_graphs
    train = stepper(cfg, running.parts, running.state, running.batches)

    def steps(count: int) -> None:
        for _ in range(count):
            train()
        wait(running.parts.device)

    return steps


def _together(*, compile: bool = False, capture: bool = False) -> Way:
    def way(members: list[Member]) -> Steps:
        # What the CPU lacks it does not refuse: it kills.
        if (most := room(members[0])) < len(members):
            raise MemoryError(f"there is memory for {most} at once")
        return as_team(Stacked(members, compile=compile, capture=capture))

    return way
