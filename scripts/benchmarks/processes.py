"""Processes that train members side by side on one device."""

import multiprocessing
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psutil
import torch
from omegaconf import DictConfig, OmegaConf

from benchmarks.members import in_turn
from benchmarks.ways import Ready, ready
from gan.build import find_device, load_data
from gan.errors import first_line


class Order(NamedTuple):
    """To one process."""

    processes: int
    """That share the members out."""
    threads: int
    steps: int
    """Of each member; none where it is only to get ready."""


class Processes:
    """Processes that are started once, any number of which then share all members out."""

    def __init__(self, cfgs: Sequence[DictConfig], count: int):
        self._members, self._threads = len(cfgs), torch.get_num_threads()
        plain = [OmegaConf.to_container(cfg, resolve=True) for cfg in cfgs]
        device, spawn = find_device(cfgs[0].device), multiprocessing.get_context("spawn")
        free, begun = _free(device), time.perf_counter()
        self._processes, self._ends = [], []
        for number in range(count):
            end, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(theirs, plain, number), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._ends.append(end)
        sizes = [size for size in map(_answer, self._ends) if isinstance(size, int)]
        # Bytes of main memory, and of a GPU's, that a process takes before it has members.
        self._empty = sum(sizes) / max(1, len(sizes))
        self._empty_on_device = (free - _free(device)) / max(1, count)
        self._seconds = time.perf_counter() - begun

    def ready(self, count: int) -> Ready:
        """So many of them, to make steps of all members.

        Raises:
            RuntimeError: one died, or could not do what it was told; so do the steps.
        """
        begun = time.perf_counter()
        memory = self._tell(count, 0)
        seconds = time.perf_counter() - begun

        def steps(number: int) -> None:
            self._tell(count, number)

        return Ready(steps, self._members, memory, seconds)

    def name(self, count: int) -> str:
        return f"{count} processes, {threads(self._threads_of(count))} each"

    def told(self) -> str:
        """What they cost beside that."""
        text = f"{len(self._ends)} processes start in {self._seconds:.0f} s; "
        text += f"before it has members, one takes {self._empty / 1e6:.0f} MB"
        if self._empty_on_device:
            text += f", and {self._empty_on_device / 1e6:.0f} MB of the GPU's"
        return text

    def close(self) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join()

    def _threads_of(self, count: int) -> int:
        """One process, where so many train."""
        return max(1, self._threads // count)

    def _tell(self, count: int, steps: int) -> int:
        """Bytes that their members take."""
        for end in self._ends[:count]:
            # Of one that died, its answer tells.
            with suppress(OSError):
                end.send(Order(count, self._threads_of(count), steps))
        return sum(_answers(self._ends[:count]))


def threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _answers(ends: Sequence[Connection]) -> list[int]:
    """Of them all, before anything is made of one."""
    said = [_answer(end) for end in ends]
    for failure in said:
        if isinstance(failure, str):
            raise RuntimeError(failure)
    return [int(number) for number in said]


def _answer(end: Connection) -> int | str:
    """A number of bytes, or what went wrong."""
    try:
        said: int | str = end.recv()
    except (EOFError, OSError):
        return "a process died"
    return said


def _work(end: Connection, configs: list[dict[str, Any]], number: int) -> None:
    """Follow orders until there are no more."""
    # Ctrl-C is for the parent, whose end of the pipe closes then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cfgs = [OmegaConf.create(config) for config in configs]
    shares: dict[int, Ready] = {}
    data = load_data(cfgs[0])
    end.send(psutil.Process().memory_full_info().uss)
    while True:
        try:
            order = end.recv()
        except (EOFError, OSError):
            return
        try:
            torch.set_num_threads(order.threads)
            if order.processes not in shares:
                share = cfgs[number :: order.processes]
                shares[order.processes] = ready(in_turn, share, data)
            if order.steps:
                shares[order.processes].steps(order.steps)
            end.send(shares[order.processes].memory)
        except Exception as error:
            end.send(first_line(error))


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
