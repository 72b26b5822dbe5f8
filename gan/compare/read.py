"""Find runs below a directory and read what they wrote.

A run may still be going on, may have been cut short or may come from another version. Nothing in
its files is taken for granted: a value that cannot be read counts as absent.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from gan.config.checks import flatten
from gan.errors import UserError, first_line
from gan.run.directory import (
    CONFIG_FILE,
    METRICS_FILE,
    OVERRIDES_FILE,
    RESULT_FILE,
    in_use,
    is_changed,
)
from gan.run.provenance import read_provenance
from gan.run.result import FINISHED, Record, best_values, read_result
from gan.run.verdict import verdict_of
from gan.sweep import SWEEP_FILE
from gan.sweep.directory import JOBS_FILE
from gan.system.files import YAML_LOADER, open_file, read_bytes, read_text, readable
from gan.system.invocation import command_line

FILES = (CONFIG_FILE, OVERRIDES_FILE, METRICS_FILE, RESULT_FILE)
"""The files that describe a run. `gan evaluate` adds metrics-NAME.json to them."""

LONGEST_LINE = 16384
"""Bytes that are read of the end of a metrics.jsonl, to see its last line."""

ABSENT = object()
"""Stands for the value of a key that a configuration does not have."""

BEST_NAME = "best"
"""The name that no evaluation may have: columns best/METRIC are of what a run logged."""

MAX_TEXT, MAX_DEPTH, MAX_VALUES = 2**20, 12, 20_000
"""Limits of what a file of a run holds: characters of YAML, levels, and values."""
MAX_RESULT = 2**24
"""Bytes that no result of a run has."""
LARGEST = 1e308
"""Numbers up to this one fit into a table."""

_SECTION_START = re.compile(r"^(?=\w)", re.MULTILINE)


@dataclass
class StoredRun:
    """A run as its files describe it, in plain data."""

    path: str
    config: dict[str, Any] = field(default_factory=dict)
    """The resolved configuration, with dotted keys."""
    overrides: list[str] = field(default_factory=list)
    """The overrides on the command line that started the run."""
    choices: dict[str, str] = field(default_factory=dict)
    """The chosen options of config groups; those on the command line if no more is known."""
    result: dict[str, Any] = field(default_factory=dict)
    """The content of result.json without `final` and `best`. It is empty if there is no file."""
    final: dict[str, float] = field(default_factory=dict)
    """The last record of metrics.jsonl: the step, and the last value of everything logged."""
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    """The best value of each metric, and the step at which the run reached it."""
    measured: dict[str, float] = field(default_factory=dict)
    """The values that `gan evaluate` measured, by NAME/METRIC."""
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Facts that the values of metrics depend on (see `gan.run.measured`): under "" those of the
    training, and under NAME those of `gan evaluate`."""
    verdict: str | None = None
    """The name of the problem that the run has, or had when it ended: see `gan.run.verdict`."""
    remark: str | None = None
    """The problem in a sentence."""
    damaged: list[str] = field(default_factory=list)
    """The names of files that are missing or damaged, so that some of the above is absent."""
    steps: int = 0
    changed: float = 0.0
    """The time when one of the run's files last changed, in seconds since 1970."""

    @property
    def finished(self) -> bool:
        """Return whether the run has nothing left to do."""
        return self.result.get("status") in FINISHED

    @property
    def data_hash(self) -> str | None:
        """The hash of the data that the run was trained on, if its result has it."""
        value = self.result.get("data_hash")
        return value if isinstance(value, str) else None

    @property
    def code(self) -> dict[str, str]:
        """The hashes of outside packages' code that the run was trained with, by their names."""
        value = self.result.get("code")
        return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}

    @property
    def contents(self) -> dict[str, str]:
        """The hashes of the data and of outside code, by keys such as `code.my_losses`.

        A configuration names these, and does not say what is in them.
        """
        data = {"data_hash": self.data_hash} if self.data_hash else {}
        return data | {f"code.{name}": digest for name, digest in self.code.items()}

    @property
    def is_ours(self) -> bool:
        """Return whether this program made the run. Other programs write a result.json as well."""
        versions = self.result.get("versions")
        if isinstance(versions, dict) and "gan-sweeps" in versions:
            return True
        with suppress(OSError):
            return read_provenance(Path(self.path)) is not None
        return False

    def status(self) -> str:
        """Return the status in result.json, "running", or "interrupted" if nothing else is known.

        A run that another process has continued is running, whatever its old result says.
        """
        stored = str(self.result.get("status", "interrupted"))
        if self.finished:
            return stored
        return "running" if in_use(Path(self.path)) else stored


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
    """Return the run directories at the paths and anywhere below them, each once.

    They are in the order of the paths, and those of one path are sorted by name.

    Raises:
        UserError: A path is not a directory, or there is no run at or below any of them.
    """
    run_dirs: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path}: {'not a directory' if path.exists() else 'does not exist'}")
        for run_dir in sorted(_runs_below(path)):
            run_dirs.setdefault(run_dir.resolve(), run_dir)
    if not run_dirs:
        where = ", ".join(map(str, paths)) or "no directory"
        raise UserError(
            f"no runs found in {where} or any folder below; a run's directory holds "
            f"{CONFIG_FILE} and {OVERRIDES_FILE}, as {command_line('train')} writes them"
        )
    return list(run_dirs.values())


def read_runs(run_dirs: Sequence[Path]) -> list[StoredRun]:
    """Read run directories.

    A run that failed before it wrote its configuration gets the one that its sweep had planned.
    """
    planned_jobs = cache(_planned_jobs)
    runs = [_read_anyway(run_dir) for run_dir in run_dirs]
    for run, run_dir in zip(runs, run_dirs, strict=True):
        if not run.config:
            job = planned_jobs(run_dir.parent).get(run_dir.name, {})
            run.config = flatten(job.get("config", {}))
            run.choices = job.get("choices") or run.choices
    return runs


def unreadable(run_dir: Path | str, error: Exception) -> StoredRun:
    """Return a run of which nothing is known but the reason."""
    reason = f"its files cannot be read: {first_line(error)}"
    return StoredRun(str(run_dir), result={"status": "unreadable", "error": reason})


def _read_anyway(run_dir: Path) -> StoredRun:
    try:
        return read_run(run_dir)
    except Exception as error:
        # Files that nobody foresaw must not keep other runs from being read.
        return unreadable(run_dir, error)


def read_run(run_dir: Path) -> StoredRun:
    """Read one run directory.

    Raises:
        Exception: a file holds what no run writes.
    """
    run = StoredRun(str(run_dir), changed=_last_change(run_dir))
    config, overrides = (_load_yaml(run_dir / name) for name in (CONFIG_FILE, OVERRIDES_FILE))
    run.config = flatten(config) if isinstance(config, dict) else {}
    run.overrides = [str(text) for text in overrides] if isinstance(overrides, list) else []
    with suppress(OSError):
        run.result = read_result(run_dir) or {}
    _refuse_oversize(run.result)
    stored = run.result.get("choices")
    with suppress(OSError):
        stored = stored or (read_provenance(run_dir) or {}).get("choices")
    given = dict(text.split("=", 1) for text in run.overrides if "=" in text)
    run.choices = stored if isinstance(stored, dict) and stored else given
    # A run that failed before it could start has a result alone.
    began = (run_dir / METRICS_FILE).exists()
    if not isinstance(config, dict) and (began or (run_dir / CONFIG_FILE).exists()):
        run.damaged.append(CONFIG_FILE)
    if not isinstance(overrides, list) and (began or (run_dir / OVERRIDES_FILE).exists()):
        run.damaged.append(OVERRIDES_FILE)
    if not run.result and (run_dir / RESULT_FILE).exists():
        run.damaged.append(RESULT_FILE)
    final, best = run.result.pop("final", None), run.result.pop("best", None)
    if not (run.finished and isinstance(final, dict) and isinstance(best, dict)):
        records = read_history(run_dir)
        earlier = final.get("step", 0) if isinstance(final, dict) else 0
        final, best = records[-1] if records else {}, best_values(records)
        run.result["verdict"] = _verdict(records, run.config)
        # A run that goes on from a checkpoint has fewer records for a while.
        if final.get("step", 0) < earlier and not in_use(run_dir):
            run.damaged.append(METRICS_FILE)
    elif not _ends_at(run_dir / METRICS_FILE, final):
        run.damaged.append(METRICS_FILE)
    if isinstance(verdict := run.result.pop("verdict", None), dict):
        run.verdict, run.remark = (readable(str(verdict.get(n))) for n in ("problem", "text"))
    run.final = _only_numbers(final)
    run.best = {name: _only_numbers(at) for name, at in best.items() if isinstance(at, dict)}
    steps = run.result.get("steps") if run.finished else None
    run.steps = int(steps if is_number(steps) and steps else run.final.get("step", 0))
    measured = run.result.get("measured")
    run.facts[""] = measured if isinstance(measured, dict) else {}
    for name, content in _evaluations(run_dir):
        if content is None:
            run.damaged.append(f"metrics-{name}.json")
            continue
        values = _only_numbers(content["values"])
        run.measured |= {f"{name}/{metric}": value for metric, value in values.items()}
        unknown = dict.fromkeys(("weights", "samples", "real", "split"), "unknown")
        run.facts[name] = unknown | {key: content[key] for key in content if key != "step"}
        if content.get("step", run.steps) != run.steps:
            run.facts[name]["step"] = content["step"]
    return run


def read_history(run_dir: Path) -> list[Record]:
    """Return the complete lines of metrics.jsonl, sorted by step, each step once."""
    try:
        text = read_bytes(run_dir / METRICS_FILE).decode(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")[:-1]
    try:
        records = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        records = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                records.append(json.loads(line))
    by_step = {
        record["step"]: record
        for record in records
        if isinstance(record, dict) and isinstance(record.get("step"), int)
    }
    return [by_step[step] for step in sorted(by_step)]


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and not a boolean."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) < math.inf and abs(value) < LARGEST


def _runs_below(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as scan:
            entries = {entry.name: entry for entry in scan}
    except OSError:
        # Not ours to read, or gone since.
        return
    # A run that failed before it could start has a result and no configuration.
    began = CONFIG_FILE in entries and {OVERRIDES_FILE, METRICS_FILE, RESULT_FILE} & entries.keys()
    if began or (RESULT_FILE in entries and not _is_of_others(folder / RESULT_FILE)):
        yield folder
        return
    for name, entry in entries.items():
        # A sweep keeps a copy of conf/, which has files of the same names as a run.
        is_copy = name == "conf" and SWEEP_FILE in entries
        if entry.is_dir(follow_symlinks=False) and not name.startswith(".") and not is_copy:
            yield from _runs_below(folder / name)


def _is_of_others(path: Path) -> bool:
    """Return whether a result.json can be read and is none of a run. Other programs write some."""
    try:
        if path.stat().st_size > MAX_RESULT:
            return True
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return False
    return not (isinstance(content, dict) and "status" in content)


def _planned_jobs(sweep_dir: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs that a sweep planned, by their names."""
    jobs: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        if (sweep_dir / SWEEP_FILE).exists():
            for line in read_text(sweep_dir / JOBS_FILE).splitlines():
                job = json.loads(line)
                if isinstance(job["config"], dict):
                    jobs[job["name"]] = job
    return jobs


def _last_change(run_dir: Path) -> float:
    latest = 0.0
    for name in FILES:
        with suppress(OSError):
            latest = max(latest, (run_dir / name).stat().st_mtime)
    return latest


def _ends_at(metrics: Path, final: dict[str, Any]) -> bool:
    """Return whether the last line of a metrics.jsonl is the last record of the run's result."""
    try:
        with open_file(metrics) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LINE))
            *_, last, rest = b"\n", *file.read().split(b"\n")
        return not rest and json.loads(last or b"{}") == final
    except (OSError, ValueError):
        return not final


def _evaluations(run_dir: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the name and the content of every metrics-NAME.json; None if it cannot be read."""
    for file in sorted(run_dir.glob("metrics-*.json")):
        content = None
        with suppress(OSError, ValueError, RecursionError):
            content = json.loads(read_text(file))
        is_whole = isinstance(content, dict) and isinstance(content.get("values"), dict)
        name = file.stem.removeprefix("metrics-")
        # A column best/METRIC is of the values that a run logged.
        if name != BEST_NAME:
            yield name, content if is_whole else None


def _verdict(records: list[Record], config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the problem that a run has, which has not ended."""
    # The configuration of another program may hold anything.
    with suppress(Exception):
        verdict = verdict_of(map(_only_numbers, records), config)
        return verdict._asdict() if verdict else None
    return None


def _only_numbers(values: dict[str, Any]) -> dict[str, float]:
    return {readable(str(name)): value for name, value in values.items() if is_number(value)}


def _load_yaml(path: Path) -> Any:
    """Return the content of a YAML file, or None if it cannot be read."""
    try:
        text = read_text(path)
    except (OSError, ValueError):
        return None
    if is_changed(text):
        return None
    if len(text) > MAX_TEXT:
        raise ValueError(f"{path.name} is larger than {MAX_TEXT:,} characters")
    # Runs of a sweep have most sections of their configurations in common, such as `model:` with
    # the lines below it. To parse equal sections once makes reading three times as fast.
    sections = [_parse_yaml(section) for section in _SECTION_START.split(text) if section]
    if sections and sections[0] is None:
        # The first line is a comment.
        del sections[0]
    if all(isinstance(section, dict) for section in sections):
        content = {key: value for section in sections for key, value in section.items()}
    else:
        content = _parse_yaml(text)
    _refuse_oversize(content)
    return content


def _refuse_oversize(content: Any) -> None:
    """Refuse plain data that are deeper or larger than those of any run.

    Raises:
        ValueError: names the limit.
    """
    left, level = [content], 0
    count = 0
    while left:
        count, level = count + len(left), level + 1
        if level > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError(f"more than {MAX_DEPTH} levels or {MAX_VALUES:,} values")
        for value in left:
            if isinstance(value, int) and not -LARGEST < value < LARGEST:
                raise ValueError(f"an integer beyond {LARGEST:g}")
        dicts = (value.values() for value in left if isinstance(value, dict))
        lists = (value for value in left if isinstance(value, list))
        left = [item for items in (*dicts, *lists) for item in items]


@lru_cache(maxsize=4096)
def _parse_yaml(text: str) -> Any:
    # OmegaConf's own loader takes ten times as long, and the files are plain YAML. Only Python's
    # loader takes the codes of names that are not UTF-8.
    for loader in (YAML_LOADER, yaml.SafeLoader):
        with suppress(ValueError, RecursionError, yaml.YAMLError):
            return yaml.load(text, loader)
    return None
