"""Time runs that are trained together, one after another, and in processes side by side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

import torch
from omegaconf import DictConfig
from rich.console import Console

from benchmarks.device_limits import Operations, launches, products, record_operations
from benchmarks.processes import Processes, threads
from benchmarks.strategies import (
    SEQUENTIAL,
    TOGETHER,
    Prepared,
    alone,
    make_configs,
    prepare,
    sequential,
    start_runs,
    strategies,
)
from benchmarks.timing import Steps, median_seconds, timing_table
from gan.build import find_device, load_data
from gan.data import Data
from gan.errors import NotSupported, first_line
from gan.vectorized.run_set import RunFailed

COLUMNS = ("", "ms/step", "steps/s", "ratio", "MB", "set-up s")
PROCESSES = (2, 4, 8)
"""Numbers of processes to time."""
WIDTHS = ("hidden_dim", "channels")
"""Keys of models that hold their width."""


def time_vectorized(
    *,
    rounds: int,
    steps: int,
    members: int,
    model: str,
    data: str,
    hidden_dim: int,
    device: str,
    compile: bool,
) -> None:
    """Print a table of the strategies to train so many runs, and of the limits of the device."""
    cfgs = make_configs(count=members, model=model, data=data, hidden_dim=hidden_dim, device=device)
    target, loaded = find_device(device), load_data(cfgs[0])
    counts = [count for count in PROCESSES if count <= members]
    with closing(Processes(cfgs, max(counts, default=0))) as processes:
        rows = _strategies(cfgs, loaded, compile=compile, cuda=target.type == "cuda")
        rows |= {processes.row_name(count): partial(processes.prepare, count) for count in counts}
        prepared, errors = _prepare_all(rows)
        operations = _operations(cfgs, loaded, prepared.get(TOGETHER))
        calls = {name: row.steps for name, row in prepared.items()}
        calls |= _limits(operations, members, target)
        seconds = median_seconds(
            {name: partial(call, steps) for name, call in calls.items()}, rounds
        )
    runs = {name: prepared[name].runs if name in prepared else members for name in calls}
    rates = {name: steps * runs[name] / taken for name, taken in seconds.items()}
    counted = ", ".join(f"{each.launches} {name}" for name, each in operations.items())
    caption = f"ratio: of steps/s, to the first row's\nlaunches a step: {counted}"
    table = timing_table(COLUMNS, title=_title(cfgs, data, target), caption=caption)
    for name, rate in rates.items():
        ratio = f"{rate / rates[SEQUENTIAL]:.2f}" if SEQUENTIAL in rates else "-"
        cells = [f"{1000 / rate:.3g}", f"{rate:.0f}", ratio]
        if name in prepared:
            cells += [f"{prepared[name].memory / 1e6:.0f}", f"{prepared[name].seconds:.1f}"]
        table.add_row(name, *cells)
    for name in errors:
        table.add_row(name, *"-----")
    console = Console()
    console.print(table)
    for name, error in errors.items():
        console.print(f"{name}: {error}", markup=False)
    if counts:
        console.print(processes.overhead())


def _strategies(
    cfgs: Sequence[DictConfig], data: Data, *, compile: bool, cuda: bool
) -> dict[str, Callable[[], Prepared]]:
    """Return functions that prepare the runs in this process, by the names of their rows."""
    rows: dict[str, Callable[[], Prepared]] = {
        name: partial(prepare, strategy, cfgs, data)
        for name, strategy in strategies(compile=compile, cuda=cuda).items()
    }
    if cuda:
        for name, graphs in (("a single run", False), ("a single run, graphs", True)):
            rows[name] = partial(prepare, partial(alone, cuda_graphs=graphs), cfgs[:1], data)
    return rows


def _prepare_all(
    rows: Mapping[str, Callable[[], Prepared]],
) -> tuple[dict[str, Prepared], dict[str, str]]:
    """Return what could be prepared, and error messages for the rest."""
    prepared: dict[str, Prepared] = {}
    errors: dict[str, str] = {}
    for name, make in rows.items():
        try:
            prepared[name] = make()
        except (NotSupported, RunFailed, MemoryError, RuntimeError) as error:
            errors[name] = first_line(error)
    return prepared, errors


def _operations(
    cfgs: Sequence[DictConfig], data: Data, together: Prepared | None
) -> dict[str, Operations]:
    """Return the operations of a step of one run, and of a step of all runs together."""
    one = sequential(start_runs(cfgs[:1], data))
    one(1)
    operations = {SEQUENTIAL: record_operations(partial(one, 1))}
    if together:
        operations[TOGETHER] = record_operations(partial(together.steps, 1))
    return operations


def _limits(
    operations: Mapping[str, Operations], runs: int, device: torch.device
) -> dict[str, Steps]:
    """Return steps of all runs that hold only products, or only launches, by row name."""
    limits: dict[str, Steps] = {}
    for limit in (products, launches):
        for name, each in operations.items():
            steps, times = limit(each, device), runs if name == SEQUENTIAL else 1
            limits[f"{limit.__name__}, {name}"] = partial(_multiply, steps, times)
    return limits


def _multiply(steps: Steps, times: int, count: int) -> None:
    steps(count * times)


def _title(cfgs: Sequence[DictConfig], data: str, device: torch.device) -> str:
    cfg = cfgs[0]
    width = next(f"{key}={cfg.model[key]}" for key in WIDTHS if key in cfg.model)
    where = threads(torch.get_num_threads())
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    batch = f"batch {cfg.trainer.batch_size}"
    return f"{len(cfgs)} members, {width}, {data}, {batch}, {where}, torch {torch.__version__}"
