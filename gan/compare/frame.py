"""Runs as a pandas table with a column for every configuration key in which they differ."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gan.compare.read import ABSENT, StoredRun, find_runs, read_history, read_runs
from gan.config.checks import defines_result
from gan.errors import UserError, nearest
from gan.metrics.catalogue import METRICS, sign
from gan.run.directory import CONFIG_FILE
from gan.sweep.plan import short_names

DESCRIPTIVE_KEYS = ("name", "tags", "notes")
"""Keys that do not change a result. They still become columns if runs differ in them."""

TARGET = "._target_"
"""The ending of a key that says which option of a config group was chosen. Its column is named
after the group."""


@dataclass
class Table:
    """Runs as the rows of a data frame."""

    frame: pd.DataFrame
    runs: list[StoredRun]
    """All runs. The frame's index holds their numbers in this list."""
    keys: dict[str, str]
    """The dotted configuration keys in which runs differ, by the names of their columns."""
    objective: str
    """The objective that most of the runs have. It is a column."""

    @property
    def defining_keys(self) -> list[str]:
        """The columns of configuration keys that can change a result."""
        return [name for name in self.keys if name not in DESCRIPTIVE_KEYS]

    @property
    def metrics(self) -> list[str]:
        """The columns that hold a metric: its last value, its best one or one measured later.

        The objective comes first.
        """
        names = [str(name) for name in self.frame if is_metric(str(name))]
        return sorted(names, key=lambda name: (name != self.objective, "/" in name))

    def column(self, name: str) -> "pd.Series[Any]":
        """Return a column, or the values of a configuration key that is not a column.

        Args:
            name: A column, or a dotted key in full or without its first parts.

        Raises:
            UserError: There is no such column or key, or several keys end like this.
        """
        if name in self.frame:
            return self.frame[name]
        keys = list(dict.fromkeys(key for run in self.runs for key in run.config))
        if name in keys:
            matches = [name]
        else:
            matches = [key for key in keys if f".{_without_target(key)}".endswith(f".{name}")]
        if len(matches) > 1:
            raise UserError(f"{name}: may be any of {', '.join(matches)}")
        if not matches:
            columns = list(map(str, self.frame))
            last_parts = dict.fromkeys(key.rpartition(".")[2] for key in keys)
            hint = nearest(name, [*columns, *last_parts, *keys])
            raise UserError(
                f"{name}: no such column" + (hint or f"; there are {', '.join(columns)}")
            )
        values = [_comparable(matches[0], run.config.get(matches[0])) for run in self.runs]
        return pd.Series(values, index=range(len(values))).loc[self.frame.index]

    def scores(self, metric: str) -> "pd.Series[Any]":
        """Return the column of a metric with the worst possible value for runs that diverged.

        The last value that such a run logged says nothing about its samples.
        """
        worst = sign(metric) * math.inf
        return self.column(metric).mask(self.frame["status"] == "diverged", worst)

    def groups(self, names: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
        """Return groups of rows that have the same values in some columns, with these values.

        Groups are in the order of their first rows. Without names all rows are one group.
        """
        if not names:
            return [((), self.frame)]
        return list(self.frame.groupby(list(names), dropna=False, sort=False))

    def with_rows(self, frame: pd.DataFrame) -> "Table":
        """Return this table with some of its rows, in the order of `frame`."""
        return Table(frame, self.runs, self.keys, self.objective)


def load(*paths: str | Path, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table of the runs at and anywhere below the paths, with one row for each run.

    Its columns are, from left to right:
    `run`, the end of the directory's path that no other run has; the configuration keys in which
    runs differ, by their shortest names, such as `lr`; the `keys`; `status`; the last value of
    everything that was logged; `best/NAME`, the best value of each metric; `OPTION/NAME`, the
    values that scripts/evaluate.py measured; `steps`, `images`, `seconds`, `images_per_second`;
    `changed`, the time (UTC) when the run last wrote a file; `error` and `path`.

    Runs may still be going on.

    Args:
        keys: Further keys of the configuration that become columns, such as `trainer.pac`.

    Raises:
        UserError: There is no run, or no such key.
    """
    return read_table(paths, keys).frame


def history(run_dir: str | Path) -> pd.DataFrame:
    """Return the complete lines of a run's metrics.jsonl as a table, sorted by step.

    The columns are `step`, `epoch` and everything that was logged. A line without one of these
    values has NaN there.

    Raises:
        UserError: The directory does not belong to a run.
    """
    run_dir = Path(run_dir)
    if not (run_dir / CONFIG_FILE).exists():
        raise UserError(f"{run_dir}: not a run directory, it has no {CONFIG_FILE}")
    return pd.DataFrame(read_history(run_dir))


def read_table(paths: Sequence[str | Path], keys: Sequence[str] = ()) -> Table:
    """Return the table of `load` with the runs that it was made from.

    Raises:
        UserError: There is no run, or no such key.
    """
    table = make_table(read_runs(find_runs(paths)))
    for key in keys:
        if key not in table.frame:
            table.frame.insert(len(table.keys) + 1, key, table.column(key))
    return table


def make_table(runs: list[StoredRun]) -> Table:
    """Return a table of at least one run."""
    values_by_key = differing([run.config for run in runs])
    logged = {name for run in runs for name in run.final}
    names = _column_names(values_by_key, taken={"run", *_FACTS, *logged})
    logged -= {"step", "epoch"}
    objective = _most_frequent_objective(runs)
    columns: dict[str, Any] = {"run": _run_names(runs)}
    for key, values in values_by_key.items():
        columns[names[key]] = [_comparable(key, value) for value in values]
    columns["status"] = [run.status() for run in runs]
    for name in sorted(logged, key=lambda name: (name != objective, "/" in name, name)):
        columns[name] = [run.final.get(name) for run in runs]
    for name in METRICS:
        if any(name in run.best for run in runs):
            columns[f"best/{name}"] = [run.best.get(name, {}).get("value") for run in runs]
    for name in sorted({name for run in runs for name in run.measured}):
        columns[name] = [run.measured.get(name) for run in runs]
    columns |= {name: [fact(run) for run in runs] for name, fact in _FACTS.items()}
    columns["changed"] = pd.to_datetime(columns["changed"], unit="s")
    columns.setdefault(objective, [None] * len(runs))
    frame = pd.DataFrame(columns)
    measures = {*logged, objective, *(name for name in columns if "/" in name)}
    for name in measures | {"seconds", "images", "images_per_second"}:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return Table(frame, runs, {names[key]: key for key in values_by_key}, objective)


def differing(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of each dotted key in which configurations differ, with the seed last.

    Two kinds of keys are left out, because they follow from others: a key that only some options
    of a config group have and that has one value in all of these, and a learning rate of the
    discriminator that is the generator's.
    """
    values_by_key: dict[str, list[Any]] = {}
    for key, values in _split_lists(configs).items():
        if not (defines_result(key) or key in DESCRIPTIVE_KEYS):
            continue
        if len({_json_text(value) for value in values if value is not ABSENT}) > 1:
            values_by_key[key] = [None if value is ABSENT else value for value in values]
    for key in list(values_by_key):
        generator_key = key.replace("discriminator_", "")
        if generator_key != key and values_by_key.get(generator_key) == values_by_key[key]:
            del values_by_key[key]
    return dict(sorted(values_by_key.items(), key=lambda item: (item[0] == "seed", item[0])))


def is_metric(column: str) -> bool:
    """Return whether a column holds a metric, such as `lenet_fid` or `best/lenet_fid`."""
    return column.rpartition("/")[2] in METRICS


_FACTS: dict[str, Any] = {
    "steps": lambda run: run.steps,
    "images": lambda run: run.result.get("images"),
    "seconds": lambda run: run.result.get("seconds"),
    "images_per_second": lambda run: run.result.get("images_per_second"),
    "changed": lambda run: run.changed,
    "error": lambda run: run.result.get("error"),
    "path": lambda run: run.path,
}
"""The last columns, each with a function that returns its value for a run."""


def _split_lists(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of every key. Lists of one length, such as betas, have a key for each
    element."""
    values_by_key: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key, ABSENT) for config in configs]
        lengths = {len(v) if isinstance(v, list) else 0 for v in values if v is not ABSENT}
        if len(lengths) == 1 and (length := lengths.pop()) and key not in DESCRIPTIVE_KEYS:
            for index in range(length):
                elements = [v if v is ABSENT else v[index] for v in values]
                values_by_key[f"{key}.{index}"] = elements
        else:
            values_by_key[key] = values
    return values_by_key


def _column_names(keys: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Return the names of columns by dotted keys: `loss._target_` becomes `loss`, other keys are
    shortened. A key keeps its full name where the short one is already taken."""
    keys = list(keys)
    short = short_names(map(_without_target, keys))
    names = {key: short[_without_target(key)] for key in keys}
    return {key: key if name in taken else name for key, name in names.items()}


def _without_target(key: str) -> str:
    return key.removesuffix(TARGET)


def _most_frequent_objective(runs: Sequence[StoredRun]) -> str:
    names = [run.result.get("objective_name") for run in runs]
    names += [run.config.get("metrics.objective") for run in runs]
    objectives = [name for name in names if isinstance(name, str)]
    return max(objectives, key=objectives.count) if objectives else "sliced_wasserstein"


def _run_names(runs: Sequence[StoredRun]) -> list[str]:
    """Return the shortest ends of the runs' paths that are all different."""
    parts = [Path(os.path.abspath(run.path)).parts for run in runs]  # noqa: PTH100
    for count in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*part[-count:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [run.path for run in runs]


def _comparable(key: str, value: Any) -> Any:
    """Return a value of the configuration in a form that can be compared and grouped by."""
    if key.endswith(TARGET):
        no_target = "same" if key.startswith("discriminator_optimizer.") else "none"
        return str(value or no_target).rpartition(".")[2]
    is_plain = value is None or isinstance(value, bool | int | float | str)
    return value if is_plain else _json_text(value)


def _json_text(value: Any) -> str:
    return json.dumps(value, default=str)
