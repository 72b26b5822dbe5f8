"""Runs trained together, beside the same ones one after another and in processes side by side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from benchmarks.limits import Needs, launches, needs, products
from benchmarks.members import Steps, begin, configs, in_turn
from benchmarks.processes import Processes, threads
from benchmarks.rounds import medians
from benchmarks.ways import IN_TURN, TOGETHER, Ready, alone, ready, ways
from gan.build import find_device, load_data
from gan.data import Data
from gan.errors import Unfit, first_line
from gan.vectorized.team import Failed

COLUMNS = ("", "ms/step", "steps/s", "ratio", "MB", "set-up s")
PROCESSES = (2, 4, 8)
WIDTHS = ("hidden_dim", "channels")


def compare_vectorized(
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
    cfgs = configs(members=members, model=model, data=data, hidden_dim=hidden_dim, device=device)
    place, loaded = find_device(device), load_data(cfgs[0])
    counts = [count for count in PROCESSES if count <= members]
    with closing(Processes(cfgs, max(counts, default=0))) as processes:
        tried = _ways(cfgs, loaded, compile=compile, cuda=place.type == "cuda")
        tried |= {processes.name(count): partial(processes.ready, count) for count in counts}
        rows, missing = _ready(tried)
        needed = _needs(cfgs, loaded, rows.get(TOGETHER))
        calls = {name: row.steps for name, row in rows.items()} | _limits(needed, members, place)
        seconds = medians({name: partial(call, steps) for name, call in calls.items()}, rounds)
    trained = {name: rows[name].members if name in rows else members for name in calls}
    rates = {name: steps * trained[name] / taken for name, taken in seconds.items()}
    counted = ", ".join(f"{need.launches} {name}" for name, need in needed.items())
    caption = f"ratio: of steps/s, to the first row's\nlaunches a step: {counted}"
    table = Table(title=_title(cfgs, data, place), caption=caption)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column else "left")
    for name, rate in rates.items():
        ratio = f"{rate / rates[IN_TURN]:.2f}" if IN_TURN in rates else "-"
        cells = [f"{1000 / rate:.3g}", f"{rate:.0f}", ratio]
        if name in rows:
            cells += [f"{rows[name].memory / 1e6:.0f}", f"{rows[name].seconds:.1f}"]
        table.add_row(name, *cells)
    for name in missing:
        table.add_row(name, *"-----")
    console = Console()
    console.print(table)
    for name, reason in missing.items():
        console.print(f"{name}: {reason}", markup=False)
    if counts:
        console.print(processes.told())


def _ways(
    cfgs: Sequence[DictConfig], data: Data, *, compile: bool, cuda: bool
) -> dict[str, Callable[[], Ready]]:
    """What makes members ready in this process."""
    found: dict[str, Callable[[], Ready]] = {
        name: partial(ready, way, cfgs, data)
        for name, way in ways(compile=compile, cuda=cuda).items()
    }
    if cuda:
        for name, graphs in (("a single run", False), ("a single run, graphs", True)):
            found[name] = partial(ready, partial(alone, cuda_graphs=graphs), cfgs[:1], data)
    return found


def _ready(tried: Mapping[str, Callable[[], Ready]]) -> tuple[dict[str, Ready], dict[str, str]]:
    """Those that are, and why others are not."""
    rows: dict[str, Ready] = {}
    missing: dict[str, str] = {}
    for name, make in tried.items():
        try:
            rows[name] = make()
        except (Unfit, Failed, MemoryError, RuntimeError) as error:
            missing[name] = first_line(error)
    return rows, missing


def _needs(cfgs: Sequence[DictConfig], data: Data, together: Ready | None) -> dict[str, Needs]:
    """Of a step of one run, and of a step of all together."""
    one = in_turn(begin(cfgs[:1], data))
    one(1)
    found = {IN_TURN: needs(partial(one, 1))}
    if together:
        found[TOGETHER] = needs(partial(together.steps, 1))
    return found


def _limits(needed: Mapping[str, Needs], members: int, device: torch.device) -> dict[str, Steps]:
    """What the device takes at least to make steps of all members."""
    limits: dict[str, Steps] = {}
    for part in (products, launches):
        for name, need in needed.items():
            steps, times = part(need, device), members if name == IN_TURN else 1
            limits[f"{part.__name__}, {name}"] = partial(_times, steps, times)
    return limits


def _times(steps: Steps, times: int, count: int) -> None:
    steps(count * times)


def _title(cfgs: Sequence[DictConfig], data: str, device: torch.device) -> str:
    cfg = cfgs[0]
    width = next(f"{key}={cfg.model[key]}" for key in WIDTHS if key in cfg.model)
    where = threads(torch.get_num_threads())
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    batch = f"batch {cfg.trainer.batch_size}"
    return f"{len(cfgs)} members, {width}, {data}, {batch}, {where}, torch {torch.__version__}"
