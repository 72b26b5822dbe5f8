"""Time training steps with idle threads that wait in other ways, also beside busy programs."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.timing import timing_table
from gan.errors import UserError
from gan.system.startup import SHORT_WAITS, core_count

WAYS = {
    "wait in a loop": {},
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "sleep soon": SHORT_WAITS,
}
"""Environment variables by the way in which idle threads wait. The last one is that of runs."""

BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"

TRAIN = """
import sys, time, torch
from benchmarks.steps import our_loop
from gan.config.compose import compose

threads, *overrides = sys.argv[1:]
torch.set_num_threads(int(threads))
loop = our_loop(compose(*overrides))
print("ready", flush=True)
for line in sys.stdin:
    loop(5)
    wall, cpu = time.perf_counter(), time.process_time()
    loop(int(line))
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


def time_waiting(*, rounds: int, steps: int, hidden_dim: int) -> None:
    """Print seconds of training steps by threads and ways to wait, alone and beside busy programs.

    There are as many busy programs as cores. Each row is a process of its own, as OpenMP reads its
    variables only once.
    """
    cores = core_count()
    rows = {f"{_threads(cores)}, {way}": (cores, WAYS[way]) for way in WAYS}
    rows = {_threads(1): (1, WAYS["sleep soon"]), **rows}
    with ExitStack() as stack:
        trainings = {
            name: stack.enter_context(_training(threads, variables, hidden_dim))
            for name, (threads, variables) in rows.items()
        }
        costs: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for _ in range(rounds):
            for busy in (0, cores):
                with _busy_programs(busy):
                    for name, training in trainings.items():
                        costs.setdefault((name, busy), []).append(_cost(training, steps))
    load = ", ".join(f"{value:.0f}" for value in os.getloadavg())
    title = f"{steps} steps, hidden_dim {hidden_dim}, load averages {load}"
    columns = ("", "alone s", "CPU s", f"beside {cores} busy s", "CPU s")
    table = timing_table(columns, title=title, caption="Medians, and the least in brackets")
    for name in rows:
        cells = []
        for busy in (0, cores):
            wall, cpu = zip(*costs[name, busy], strict=True)
            cells += [f"{statistics.median(wall):.2f} ({min(wall):.2f})"]
            cells += [f"{statistics.median(cpu):.2f}"]
        table.add_row(name, *cells)
    Console().print(table)


@contextmanager
def _training(
    threads: int, variables: dict[str, str], hidden_dim: int
) -> Iterator["subprocess.Popen[str]"]:
    unset = {"OMP_WAIT_POLICY", "OMP_NUM_THREADS", *SHORT_WAITS}
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= variables | {"PYTHONPATH": str(Path(__file__).parents[1])}
    words = [str(threads), "device=cpu", f"model.hidden_dim={hidden_dim}"]
    with subprocess.Popen(
        [sys.executable, "-c", TRAIN, *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout
        if not process.stdout.readline():
            raise UserError("a training could not be started; its own lines say why")
        yield process


def _cost(training: "subprocess.Popen[str]", steps: int) -> tuple[float, float]:
    """Return the seconds of wall time and of CPU that so many steps take."""
    assert training.stdin
    assert training.stdout
    print(steps, file=training.stdin, flush=True)
    wall, cpu = training.stdout.readline().split()
    return float(wall), float(cpu)


@contextmanager
def _busy_programs(count: int) -> Iterator[None]:
    programs = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"
