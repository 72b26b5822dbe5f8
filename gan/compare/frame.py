"""Runs as a pandas table, with columns for what differs between them."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gan.compare.cache import read_runs
from gan.compare.find import find_runs
from gan.compare.read import Run, read_history
from gan.config.checks import defines_result
from gan.errors import UserError, nearest
from gan.metrics.catalogue import METRICS
from gan.run.directory import CONFIG_FILE
from gan.sweep.naming import labels

TOLD = ("name", "tags", "notes")
"""Keys that leave the result alone and are columns all the same where they differ."""

TARGET = "._target_"
"""What the choice of a config group is told by; as a column it has the group's name."""


@dataclass
class Table:
    """Runs as rows."""

    frame: pd.DataFrame
    runs: list[Run]
    """In the order of the frame's index, which numbers them."""
    keys: dict[str, str]
    """Columns of the configuration, by name, with their dotted keys: those in which runs differ."""
    objective: str
    """The most frequent metrics.objective, a column."""

    @property
    def metrics(self) -> list[str]:
        """The columns that a run's samples were measured for, objective first."""
        found = [name for name in self.frame if _metric(str(name)) in METRICS]
        return sorted(map(str, found), key=lambda name: (name != self.objective, "/" in name))

    def column(self, name: str) -> "pd.Series[Any]":
        """A column, or any other key of the configuration, in full or by an ending.

        Raises:
            UserError: there is neither; the nearest is named.
        """
        if name in self.frame:
            return self.frame[name]
        config = {key: None for run in self.runs for key in run.config}
        found = [key for key in config if f".{key.removesuffix(TARGET)}".endswith(f".{name}")]
        if name in config:
            found = [name]
        if len(found) > 1:
            raise UserError(f"{name}: may be any of {', '.join(found)}")
        if not found:
            short = {key.rpartition(".")[2]: None for key in config}
            hint = nearest(name, [*map(str, self.frame), *short, *config])
            columns = ", ".join(map(str, self.frame)) if not hint else ""
            raise UserError(f"{name}: no such column{hint or f'; there are {columns}'}")
        values = [_cell(found[0], run.config.get(found[0])) for run in self.runs]
        return pd.Series(values, index=range(len(values))).loc[self.frame.index]

    def where(self, frame: pd.DataFrame) -> "Table":
        """The same with some of the rows, in their order."""
        return Table(frame, self.runs, self.keys, self.objective)


def read_table(paths: Sequence[str | Path], keys: Sequence[str] = ()) -> Table:
    """What gan.run.result.load returns, and what its columns are.

    Raises:
        UserError: there is no run, or no such key.
    """
    runs = read_runs(find_runs(paths))
    table = make_table(runs)
    for key in keys:
        if key not in table.frame:
            table.frame.insert(len(table.keys) + 1, key, table.column(key))
    return table


def make_table(runs: list[Run]) -> Table:
    """A table of at least one run."""
    config = differing([run.config for run in runs])
    names = _columns(config, taken={"run", *_FACTS, *(name for run in runs for name in run.final)})
    columns: dict[str, Any] = {"run": _names(runs)}
    columns |= {
        names[key]: [_cell(key, value) for value in values] for key, values in config.items()
    }
    columns["status"] = [run.status() for run in runs]
    objectives = [run.result.get("objective_name") for run in runs]
    objectives += [run.config.get("metrics.objective") for run in runs]
    known = [name for name in objectives if isinstance(name, str)]
    objective = max(known, key=known.count) if known else "sliced_wasserstein"
    logged = {name: None for run in runs for name in run.final if name not in ("step", "epoch")}
    for name in sorted(logged, key=lambda name: (name != objective, "/" in name, name)):
        columns[name] = [run.final.get(name) for run in runs]
    for name in {name: None for name in METRICS if any(name in run.best for run in runs)}:
        columns[f"best/{name}"] = [run.best.get(name, {}).get("value") for run in runs]
    for name in sorted({name for run in runs for name in run.measured}):
        columns[name] = [run.measured.get(name) for run in runs]
    columns |= {name: [fact(run) for run in runs] for name, fact in _FACTS.items()}
    columns["changed"] = pd.to_datetime(columns["changed"], unit="s")
    if objective not in columns:
        columns[objective] = [None] * len(runs)
    frame = pd.DataFrame(columns)
    numeric = [*logged, *(name for name in columns if "/" in name), objective]
    for name in {*numeric, "seconds", "images", "images_per_second"} & set(frame):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return Table(frame, runs, {names[key]: key for key in config}, objective)


def read_curves(run_dir: Path) -> pd.DataFrame:
    if not (run_dir / CONFIG_FILE).exists():
        raise UserError(f"{run_dir}: not a run directory, it has no {CONFIG_FILE}")
    return pd.DataFrame(read_history(run_dir))


def differing(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of each (dotted) key that tells the runs apart, seeds last.

    Left out are keys that follow from others: those that only some choice of a group has and
    gives one value, and a learning rate that is another one's.
    """
    found: dict[str, list[Any]] = {}
    for key, values in _expanded(configs).items():
        if not (defines_result(key) or key in TOLD):
            continue
        distinct = {_text(value) for value in values if value is not _ABSENT}
        if len(distinct) > 1:
            found[key] = [None if value is _ABSENT else value for value in values]
    for key in list(found):
        # The discriminator's learning rate is that of the generator unless it was set.
        if (other := key.replace("discriminator_", "")) != key and found.get(other) == found[key]:
            del found[key]
    return dict(sorted(found.items(), key=lambda item: (item[0] == "seed", item[0])))


_ABSENT = object()

_FACTS: dict[str, Any] = {
    "steps": lambda run: run.steps,
    "images": lambda run: run.result.get("images"),
    "seconds": lambda run: run.result.get("seconds"),
    "images_per_second": lambda run: run.result.get("images_per_second"),
    "changed": lambda run: run.changed,
    "error": lambda run: run.result.get("error"),
    "path": lambda run: run.path,
}


def _expanded(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of every key; lists of one length, such as betas, by their elements."""
    keys = {key: None for config in configs for key in config}
    found: dict[str, list[Any]] = {}
    for key in keys:
        values = [config.get(key, _ABSENT) for config in configs]
        lengths = {len(v) if isinstance(v, list) else 0 for v in values if v is not _ABSENT}
        if len(lengths) == 1 and (length := lengths.pop()) and key not in TOLD:
            for index in range(length):
                found[f"{key}.{index}"] = [v if v is _ABSENT else v[index] for v in values]
        else:
            found[key] = values
    return found


def _columns(keys: Iterable[str], taken: set[str]) -> dict[str, str]:
    """The names of columns by dotted keys: `loss._target_` is `loss`, others are shortened."""
    keys = list(keys)
    short = labels(key.removesuffix(TARGET) for key in keys)
    names = {key: short[key.removesuffix(TARGET)] for key in keys}
    return {key: key if name in taken else name for key, name in names.items()}


def _names(runs: Sequence[Run]) -> list[str]:
    """The shortest endings of paths that tell the runs apart."""
    parts = [Path(os.path.abspath(run.path)).parts for run in runs]  # noqa: PTH100
    for count in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*part[-count:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [run.path for run in runs]


def _cell(key: str, value: Any) -> Any:
    """A value of the configuration as something that can be compared and grouped by."""
    if key.endswith(TARGET):
        nothing = "same" if key.startswith("discriminator_optimizer.") else "none"
        return str(value or nothing).rpartition(".")[2]
    return value if value is None or isinstance(value, bool | int | float | str) else _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, default=str)


def _metric(column: str) -> str:
    return column.rpartition("/")[2]
