"""Processes that train runs side by side on one device."""

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

from benchmarks.strategies import Prepared, prepare, sequential
from gan.build import find_device, load_data
from gan.errors import first_line


class Order(NamedTuple):
    """An order to one process."""

    processes: int
    """Number of processes that share the runs."""
    threads: int
    steps: int
    """Steps to make of each run; 0 only prepares them."""


class Processes:
    """Processes that start once. Any number of them can then share all runs."""

    def __init__(self, cfgs: Sequence[DictConfig], count: int):
        self._runs, self._threads = len(cfgs), torch.get_num_threads()
        plain = [OmegaConf.to_container(cfg, resolve=True) for cfg in cfgs]
        device, spawn = find_device(cfgs[0].device), multiprocessing.get_context("spawn")
        free, start = _free_bytes(device), time.perf_counter()
        self._processes, self._pipes = [], []
        for number in range(count):
            pipe, child_pipe = spawn.Pipe()
            process = spawn.Process(target=_work, args=(child_pipe, plain, number), daemon=True)
            process.start()
            child_pipe.close()
            self._processes.append(process)
            self._pipes.append(pipe)
        sizes = [size for size in map(_answer, self._pipes) if isinstance(size, int)]
        # Bytes that a process takes before it has runs, in main memory and on the GPU.
        self._empty = sum(sizes) / max(1, len(sizes))
        self._empty_on_device = (free - _free_bytes(device)) / max(1, count)
        self._seconds = time.perf_counter() - start

    def prepare(self, count: int) -> Prepared:
        """Share all runs among so many processes, and return steps of all runs.

        Raises:
            RuntimeError: a process died or cannot train its runs. The steps raise it too.
        """
        start = time.perf_counter()
        memory = self._send(count, 0)
        seconds = time.perf_counter() - start

        def steps(number: int) -> None:
            self._send(count, number)

        return Prepared(steps, self._runs, memory, seconds)

    def row_name(self, count: int) -> str:
        """Return the name of a table row for so many processes."""
        return f"{count} processes, {threads(self._threads_each(count))} each"

    def overhead(self) -> str:
        """Return a sentence about the time and memory that processes take before they have runs."""
        text = f"{len(self._pipes)} processes start in {self._seconds:.0f} s; "
        text += f"before it has members, one takes {self._empty / 1e6:.0f} MB"
        if self._empty_on_device:
            text += f", and {self._empty_on_device / 1e6:.0f} MB of the GPU's"
        return text

    def close(self) -> None:
        """End all processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()

    def _threads_each(self, count: int) -> int:
        return max(1, self._threads // count)

    def _send(self, count: int, steps: int) -> int:
        """Send an order to so many processes and return the bytes that their runs take."""
        for pipe in self._pipes[:count]:
            # A dead process has closed its pipe. _answers reports it.
            with suppress(OSError):
                pipe.send(Order(count, self._threads_each(count), steps))
        return sum(_answers(self._pipes[:count]))


def threads(count: int) -> str:
    """Return "1 thread", "2 threads" and so on."""
    return f"{count} thread{'s' * (count > 1)}"


def _answers(pipes: Sequence[Connection]) -> list[int]:
    # Read all answers before raising an error for one of them, or the next order would get them.
    answers = [_answer(pipe) for pipe in pipes]
    for answer in answers:
        if isinstance(answer, str):
            raise RuntimeError(answer)
    return [int(answer) for answer in answers]


def _answer(pipe: Connection) -> int | str:
    """Return the number of bytes that a process reports, or its error message."""
    try:
        answer: int | str = pipe.recv()
    except (EOFError, OSError):
        return "a process died"
    return answer


def _work(pipe: Connection, configs: list[dict[str, Any]], number: int) -> None:
    """Follow orders until the parent closes the pipe."""
    # Ctrl-C stops the parent, which then closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cfgs = [OmegaConf.create(config) for config in configs]
    shares: dict[int, Prepared] = {}
    data = load_data(cfgs[0])
    pipe.send(psutil.Process().memory_full_info().uss)
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            torch.set_num_threads(order.threads)
            if order.processes not in shares:
                share = cfgs[number :: order.processes]
                shares[order.processes] = prepare(sequential, share, data)
            if order.steps:
                shares[order.processes].steps(order.steps)
            pipe.send(shares[order.processes].memory)
        except Exception as error:
            pipe.send(first_line(error))


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
