"""Runs as a pandas table with a column for every configuration key in which they differ."""

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gan.compare.copies import find_copies
from gan.compare.read import (
    ABSENT,
    StoredRun,
    find_runs,
    read_history,
    read_runs,
    unreadable,
)
from gan.config.checks import ABSENT_IF, defines_result, is_under
from gan.config.paths import places_of_data
from gan.config.schema import GLOBAL_GROUPS, GROUPS, PROTOCOL
from gan.errors import UserError, nearest
from gan.metrics.catalogue import METRICS, TRAINING_VALUES, has_direction, logged_name, sign
from gan.run import measured
from gan.run.directory import CONFIG_FILE
from gan.run.verdict import SHARE
from gan.sweep.plan import short_names
from gan.sweep.report import UNORDERED
from gan.system.files import readable
from gan.system.invocation import command_line

DESCRIPTIVE_KEYS = ("name", "tags", "notes")
"""Keys that do not change a result. They still become columns if runs differ in them."""

STATISTICS = ("rank", "n", "missing", "median", "IQR", "low", "high", "coverage", "interval")
"""The columns of a ranking that do not come from the configuration."""

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
    ways: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    """Metrics that were measured in several ways, which do not compare. Each way has a column, such
    as `lenet_fid[samples=600]`, and the numbers of the runs that were measured like this."""
    copies: set[int] = field(default_factory=set)
    """The numbers of runs that repeat another one, and so count for nothing in statistics."""
    remarks: list[str] = field(default_factory=list)
    """Lines for people about the runs."""
    damage: list[str] = field(default_factory=list)
    """Lines for people about files that could not be read."""

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
        return sorted(names, key=lambda name: (name != self.objective, not is_logged(name)))

    @property
    def notes(self) -> list[str]:
        """Lines for people about what must be known to read the table."""
        alike: dict[str, list[str]] = {}
        for name in filter(is_logged, self.ways):
            if len(ways := self.ways_of(name)) > 1:
                labels = {way.removeprefix(f"{name}["): count for way, count in ways.items()}
                listed = _listed({label.removesuffix("]"): n for label, n in labels.items()})
                alike.setdefault(listed, []).append(name)
        lines = [
            f"{', '.join(names)}: measured in ways that do not compare, each with a column of its "
            f"own: {listed}"
            for listed, names in alike.items()
        ]
        return [*self.remarks, *self.damage, *lines]

    def ways_of(self, name: str) -> dict[str, int]:
        """Return the columns of a metric, one for each way in which runs of this table were
        measured, with the numbers of these runs. Other columns have one way."""
        if name not in self.ways:
            return {name: len(self.frame)}
        counts = {way: len(runs & {*self.frame.index}) for way, runs in self.ways[name].items()}
        return {way: count for way, count in counts.items() if count}

    def measured_by(self, column: str) -> "Table":
        """Return the runs that were measured in the way of a column, whether they have a value or
        not."""
        for ways in self.ways.values():
            if column in ways:
                return self.with_rows(self.frame[self.frame.index.isin(ways[column])])
        return self

    def counted(self, column: str) -> "Table":
        """Return the runs that count in statistics of a column: those of `measured_by` that are no
        copies."""
        table = self.measured_by(column)
        return table.with_rows(table.frame[~table.frame.index.isin(self.copies)])

    def column(self, name: str) -> "pd.Series[Any]":
        """Return a column, or the values of a configuration key that is not a column.

        Args:
            name: A column, or a dotted key in full or without its first parts.

        Raises:
            UserError: There is no such column or key, several keys end like this, or a metric was
                measured in several ways that do not compare.
        """
        if name in self.ways:
            if len(ways := self.ways_of(name)) > 1:
                raise UserError(
                    f"{name}: was measured in {len(ways)} ways that do not compare; choose one of "
                    f"{_listed(ways)}"
                )
            name = next(iter(ways or self.ways[name]))
        if name in self.frame:
            return self.frame[name]
        keys = list(dict.fromkeys([*(key for run in self.runs for key in run.config), *ABSENT_IF]))
        if name in GROUPS and None not in (options := _options(self.runs, name)):
            # The option says more than the function that it calls.
            return self._series(options)
        if name in keys:
            matches = [name]
        else:
            matches = [key for key in keys if f".{_without_target(key)}".endswith(f".{name}")]
        columns_by_key = {key: self._values_of(key) for key in matches}
        found = list(columns_by_key.values())
        if len(matches) > 1 and all(values == found[0] for values in found):
            # Such as both learning rates, of which one follows the other.
            matches = matches[:1]
        if len(matches) > 1:
            raise UserError(f"{name}: may be any of {', '.join(matches)}")
        if not matches:
            columns = list(map(str, self.frame))
            last_parts = dict.fromkeys(key.rpartition(".")[2] for key in keys)
            hint = nearest(name, [*columns, *last_parts, *keys])
            raise UserError(
                f"{name}: no such column" + (hint or f"; there are {', '.join(columns)}")
            )
        return self._series(columns_by_key[matches[0]])

    def _values_of(self, key: str) -> list[Any]:
        found = [_value(run.config, key) for run in self.runs]
        return [_comparable(key, None if value is ABSENT else value) for value in found]

    def _series(self, values: Sequence[Any]) -> "pd.Series[Any]":
        """Return values of all runs as a column of those of this table."""
        return pd.Series(_readable(values), index=range(len(values))).loc[self.frame.index]

    def scores(self, metric: str) -> "pd.Series[Any]":
        """Return the column of a metric with the worst possible value for runs that diverged.

        The last value that such a run logged says nothing about its samples.
        """
        values = self.column(metric)
        measured = self.measured_by(str(values.name)).frame
        diverged = measured.index[measured["status"] == "diverged"]
        return values.mask(values.index.isin(diverged), sign(metric) * math.inf)

    def groups(self, names: Sequence[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
        """Return groups of rows that have the same values in some columns, with these values.

        Groups are in the order of their first rows. Without names all rows are one group.
        """
        if not names:
            return [((), self.frame)]
        return list(self.frame.groupby(list(names), dropna=False, sort=False))

    def with_rows(self, frame: pd.DataFrame) -> "Table":
        """Return this table with some of its rows, in the order of `frame`."""
        return replace(self, frame=frame)

    def chosen(self, frame: pd.DataFrame) -> "Table":
        """Return the table of the runs that somebody asks for, which are rows of this one.

        Their objective, and which of them repeat others, are decided among themselves.
        """
        numbers = [int(number) for number in frame.index]
        runs = [self.runs[number] for number in numbers]
        name = _most_frequent_objective(runs)
        ways = {way: len({*numbers} & members) for way, members in self.ways.get(name, {}).items()}
        objective = max(ways, key=lambda way: ways[way]) if ways else name
        found, lines = find_copies(runs)
        copies = {numbers[copy]: self.runs[numbers[best]].path for copy, best in found.items()}
        frame = frame.drop(columns="copy_of", errors="ignore")
        if copies:
            frame = frame.assign(copy_of=_readable([copies.get(number) for number in numbers]))
        return replace(
            self,
            frame=frame,
            objective=objective if objective in frame else self.objective,
            copies={*copies},
            remarks=[*lines, *_remarks(runs, name)],
        )


def load(*paths: str | Path, keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return a table of the runs at and anywhere below the paths, with one row for each run.

    Its columns are, from left to right:
    `run`, the end of the directory's path that no other run has; the config groups of which runs
    chose several options, such as `recipe` and `model`; the other configuration keys in which runs
    differ, by their shortest names, such as `lr`; the `keys`; `recipe`, `experiment` and
    `protocol`, if a run has such; `status`; `verdict`, the name of what goes wrong, if something
    does in any run; the last value of everything that was logged; `best/NAME`, the best value of
    each metric; `OPTION/NAME`, the values that `gan evaluate` measured; `steps`, `images`,
    `seconds`, `images_per_second`; `changed`, the time (UTC) when the run last wrote a file;
    `error` and `path`.

    Runs may still be going on. A metric that was measured in several ways, such as with 600 and
    with 1,000 samples, has a column for each: `lenet_fid[samples=600]`. If runs repeat the
    configuration, seed and data of another one, the column `copy_of` has the path of that one:
    statistics should leave them out, as the tables of this package do. Warnings tell of both.

    Args:
        keys: Further keys of the configuration that become columns, such as `trainer.pac`.

    Raises:
        UserError: There is no run, or no such key.
    """
    table = read_table(paths, keys)
    for note in table.notes:
        warnings.warn(note, stacklevel=2)
    return table.frame


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
    runs = read_runs(find_runs(paths))
    try:
        table = make_table(runs)
    except Exception:
        # A file that nobody foresaw makes a row with the reason, and not an end of all rows.
        table = make_table([_fitting(run) for run in runs])
    damaged = [f"{run.path}/{name}" for run in table.runs for name in run.damaged]
    if damaged:
        others = f", and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        listed = ", ".join(damaged[:3]) + others
        table.damage.append(
            f"{listed}: missing or damaged, and what is not known from other files is left out; "
            f"restore it, or go on with the run: {command_line('resume')} RUN_DIR"
        )
    for key in keys:
        if key not in table.frame:
            table.frame.insert(len(table.keys) + 1, key, table.column(key))
    return table


def _fitting(run: StoredRun) -> StoredRun:
    """Return a run, or in its place the reason why it fits into no table."""
    try:
        make_table([run])
    except Exception as error:
        return unreadable(run.path, error)
    return run


def make_table(runs: list[StoredRun]) -> Table:
    """Return a table of at least one run."""
    values_by_key = with_choices(runs, differing(_configs_with_contents(runs)))
    # The shares of ten digits would be ten columns. The verdict says what is wrong with them.
    logged = {name for run in runs for name in run.final if not name.startswith(SHARE)}
    taken = {"run", "status", "verdict", "protocol", "copy_of", *GLOBAL_GROUPS, *STATISTICS}
    names = _column_names(values_by_key, taken={*taken, *_FACTS, *logged})
    logged -= {"step", "epoch"}
    objective = _most_frequent_objective(runs)
    columns: dict[str, Any] = {"run": _run_names(runs)}
    for key, values in values_by_key.items():
        columns[names[key]] = [_comparable(key, value) for value in values]
    for group in GLOBAL_GROUPS:
        if group not in columns and {*(chosen := _options(runs, group, "none"))} != {"none"}:
            columns[group] = chosen
    if "protocol" not in columns and {*(protocols := _protocols(runs))} != {"none"}:
        columns["protocol"] = protocols
    columns["status"] = [run.status() for run in runs]
    if any(run.verdict for run in runs):
        columns["verdict"] = [run.verdict for run in runs]
    measures: dict[str, list[Any]] = {
        name: [run.final.get(name) for run in runs]
        for name in sorted(logged, key=lambda name: (name != objective, "/" in name, name))
    }
    for name in METRICS:
        if any(name in run.best for run in runs):
            measures[f"best/{name}"] = [run.best.get(name, {}).get("value") for run in runs]
    for name in sorted({name for run in runs for name in run.measured}):
        measures[name] = [run.measured.get(name) for run in runs]
    measures.setdefault(objective, [None] * len(runs))
    ways = {name: _ways(name, values, runs) for name, values in measures.items()}
    for name, values in measures.items():
        for way, members in ways[name].items():
            columns[way] = [v if number in members else None for number, v in enumerate(values)]
    columns |= {name: [fact(run) for run in runs] for name, fact in _FACTS.items()}
    columns = {name: _readable(values) for name, values in columns.items()}
    columns["changed"] = pd.to_datetime(columns["changed"], unit="s", errors="coerce")
    copies, lines = find_copies(runs)
    if copies:
        originals = (copies.get(number) for number in range(len(runs)))
        paths = [None if best is None else runs[best].path for best in originals]
        columns["copy_of"] = _readable(paths)
    frame = pd.DataFrame(columns)
    measure_columns = [way for of_name in ways.values() for way in of_name]
    for name in (*measure_columns, "seconds", "images", "images_per_second"):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return Table(
        frame,
        runs,
        {names[key]: key for key in values_by_key},
        max(ways[objective], key=lambda way: len(ways[objective][way])),
        {name: of_name for name, of_name in ways.items() if len(of_name) > 1},
        {*copies},
        [*lines, *_remarks(runs, objective)],
    )


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


def with_choices(
    runs: Sequence[StoredRun], values_by_key: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """Put the config groups of which several options were chosen in place of the keys that follow.

    A recipe or an experiment may set every key, the option of another group those of its group. A
    key stays if some command line sets it, or if one choice gave it several values, as after a
    change of a YAML file.
    """
    given = given_keys(runs)
    single_keys = {*given} - {*GROUPS}
    chosen = {group: _options(runs, group, "none") for group in GLOBAL_GROUPS}
    chosen["protocol"] = _protocols(runs)
    above = {group: options for group, options in chosen.items() if len({*options}) > 1}
    recipes = list(zip(*above.values(), strict=True)) or [()] * len(runs)
    parts = {}
    for group in {key.partition(".")[0]: None for key in values_by_key if "." in key}:
        options = _options(runs, group) if group in GROUPS else []
        is_chosen = len({*options}) > 1 and None not in options
        if is_chosen and (group in given or not _follow(options, recipes)):
            parts[group] = options
    kept = {}
    for key, values in values_by_key.items():
        causes = list(zip(recipes, parts.get(key.partition(".")[0], recipes), strict=True))
        is_setting = "." in key and not any(key in run.contents for run in runs)
        if not is_setting or is_under(key, single_keys) or not _follow(values, causes):
            kept[key] = values
    return above | parts | kept


def given_keys(runs: Sequence[StoredRun]) -> Counter[str]:
    """Return the keys and config groups that command lines set, with the numbers of their runs."""
    return Counter(text.partition("=")[0].lstrip("+~") for run in runs for text in run.overrides)


def _options(runs: Sequence[StoredRun], group: str, default: str | None = None) -> list[str | None]:
    return [run.choices.get(group, default) for run in runs]


def _protocols(runs: Sequence[StoredRun]) -> list[str | None]:
    """Return the protocol that each run was measured by while it trained, or "none"."""
    return [str(run.config.get(PROTOCOL) or "none") for run in runs]


def _follow(values: Sequence[Any], causes: Sequence[Any]) -> bool:
    """Return whether equal causes have equal values, so that the causes say it all."""
    found = dict(zip(causes, values, strict=True))
    return all(found[cause] == value for cause, value in zip(causes, values, strict=True))


def elements_of(value: Any) -> list[str]:
    """Return the elements of a list, such as tags, that a column holds as a text; else none."""
    found: Any = None
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):
            found = json.loads(value)
    return [str(element) for element in found] if isinstance(found, list) else []


def is_metric(column: str) -> bool:
    """Return whether a column holds a metric, such as `lenet_fid` or `best/lenet_fid`."""
    return logged_name(column) in METRICS


def is_logged(column: str) -> bool:
    """Return whether a metric's column holds the last value that runs logged."""
    return "/" not in column.partition("[")[0]


def _ways(name: str, values: Sequence[Any], runs: Sequence[StoredRun]) -> dict[str, set[int]]:
    """Return the columns for the values of a measure, with the numbers of the runs of each.

    A measure has one column, unless it is a metric and was measured in ways that do not compare.
    """
    *parts, last = name.removesuffix("/se").split("/")
    if last not in METRICS:
        return {name: set(range(len(runs)))}
    evaluation = "/".join(part for part in parts if part != "best")
    diverged = {number for number, run in enumerate(runs) if run.status() == "diverged"}
    numbers = [number for number, value in enumerate(values) if value is not None]
    if not evaluation:
        # A run that diverged before its first measurement is the worst of those measured like it.
        numbers += [n for n in sorted(diverged - {*numbers}) if last in _planned_metrics(runs[n])]
    labels = measured.ways(
        last, [(runs[number].facts.get(evaluation, {}), runs[number].config) for number in numbers]
    )
    members: dict[str, set[int]] = {}
    for number, label in zip(numbers, labels, strict=True):
        members.setdefault(f"{name}[{label}]" if label else name, set()).add(number)
    if evaluation:
        # Nobody measures a run that diverged. It is the worst in every way.
        members = {way: found | (diverged - {*numbers}) for way, found in members.items()}
    return members if len(members) > 1 else {name: set(range(len(runs)))}


def _planned_metrics(run: StoredRun) -> Sequence[str]:
    names = run.config.get("metrics.names")
    return names if isinstance(names, list) else []


def _remarks(runs: Sequence[StoredRun], objective: str) -> list[str]:
    return [
        *_remarks_on_weights(runs),
        *_remarks_on_objective(runs, objective),
        *_remarks_on_protocols(runs),
    ]


def _remarks_on_weights(runs: Sequence[StoredRun]) -> list[str]:
    averaged = [measured.keeps_average(run.config) for run in runs if run.config]
    if len(set(averaged)) < 2:
        return []
    return [
        f"metrics are of averaged weights in {sum(averaged)} of {len(averaged)} runs, and of the "
        "generator's own weights in the others, which keep no average"
    ]


def _remarks_on_objective(runs: Sequence[StoredRun], objective: str) -> list[str]:
    if any(run.config for run in runs) and not _objectives(runs):
        return [UNORDERED]
    if objective in TRAINING_VALUES:
        return [f"the objective {objective} does not measure the samples"]
    if has_direction(objective):
        return []
    return [
        f"is {objective} better high or low? The package that brings this metric is not "
        "installed; low values come first"
    ]


def _remarks_on_protocols(runs: Sequence[StoredRun]) -> list[str]:
    """Return a line for the protocol of all runs, and for each evaluation whose name does not tell
    the protocol that it kept to."""
    of_runs = {*_protocols(runs)}
    lines = [f"measured by protocol={name}" for name in of_runs if {name} == of_runs != {"none"}]
    found = {
        (name, str(facts["protocol"]))
        for run in runs
        for name, facts in run.facts.items()
        if name and facts.get("protocol") not in (None, name)
    }
    return lines + [
        f"{name}/...: measured by protocol={protocol}" for name, protocol in sorted(found)
    ]


def _configs_with_contents(runs: Sequence[StoredRun]) -> list[dict[str, Any]]:
    """Return the configurations of runs, with the hashes of their data and of outside code as
    further keys where one choice had several contents. So nothing takes them for repetitions.
    Where the same data lay in several places, they have the first of these."""
    first: dict[tuple[str, str | None], Any] = {}
    configs = [
        run.config
        | {
            key: first.setdefault((key, run.data_hash), place) if run.data_hash else place
            for key, place in places_of_data(run.config).items()
        }
        for run in runs
    ]
    found: dict[tuple[str, str], set[str]] = {}
    for run, config in zip(runs, configs, strict=True):
        data = {key: value for key, value in config.items() if key.startswith("data.")}
        for key, content in run.contents.items():
            choice = _json_text(data) if key == "data_hash" else ""
            found.setdefault((key, choice), set()).add(content)
    several = {key for (key, _), contents in found.items() if len(contents) > 1}
    return [
        config | {key: value for key, value in run.contents.items() if key in several}
        for run, config in zip(runs, configs, strict=True)
    ]


def _listed(ways: Mapping[str, int]) -> str:
    return ", ".join(
        f"{way} ({count} {'run' if count == 1 else 'runs'})" for way, count in ways.items()
    )


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


def _value(config: dict[str, Any], key: str) -> Any:
    """Return the value of a key, which a configuration may leave out if it is a certain one."""
    return config.get(key, ABSENT_IF.get(key, ABSENT))


def _split_lists(configs: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of every key. Lists of one length, such as betas, have a key for each
    element."""
    values_by_key: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [_value(config, key) for config in configs]
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
    objectives = _objectives(runs)
    return max(objectives, key=objectives.count) if objectives else "sliced_wasserstein"


def _objectives(runs: Sequence[StoredRun]) -> list[str]:
    names = [run.result.get("objective_name") for run in runs]
    names += [run.config.get("metrics.objective") for run in runs]
    return [name for name in names if isinstance(name, str)]


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


def _readable(values: Sequence[Any]) -> list[Any]:
    """Return values with texts that pandas can hold, which keeps them as UTF-8."""
    return [readable(value) if isinstance(value, str) else value for value in values]


def _json_text(value: Any) -> str:
    return json.dumps(value, default=str)
