"""What one run wrote, read without trust: it may be going on, cut short or of another version."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gan.config.checks import flatten
from gan.run.directory import CONFIG_FILE, OVERRIDES_FILE, in_use
from gan.run.result import FINISHED, METRICS_FILE, RESULT_FILE, Record, best, read_result

FILES = (CONFIG_FILE, OVERRIDES_FILE, METRICS_FILE, RESULT_FILE)
"""What a run's facts come from, beside metrics-NAME.json."""

try:
    from yaml import CSafeLoader as _Loader
except ImportError:
    from yaml import SafeLoader as _Loader


@dataclass
class Run:
    """The facts of a run that follow from its files; all of them plain data."""

    path: str
    config: dict[str, Any] = field(default_factory=dict)
    """Resolved, with dotted keys."""
    overrides: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    """result.json, less the values below; empty where there is none."""
    final: dict[str, float] = field(default_factory=dict)
    best: dict[str, dict[str, float]] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)
    """What scripts/evaluate.py measured, as NAME/METRIC."""
    steps: int = 0
    changed: float = 0.0
    """When a file last changed, in seconds since 1970."""

    def status(self) -> str:
        """That of result.json, or "running", or "interrupted" where neither says more."""
        stored = str(self.result.get("status", "interrupted"))
        if stored in FINISHED:
            return stored
        return "running" if in_use(Path(self.path)) else stored


def read_run(path: Path, planned: dict[str, Any] | None = None) -> Run:
    """Read a run's directory.

    Args:
        planned: the configuration, for a run that failed before it could write one.
    """
    run = Run(str(path), changed=_changed(path))
    config = _yaml(path / CONFIG_FILE)
    run.config = flatten(config if isinstance(config, dict) else planned or {})
    overrides = _yaml(path / OVERRIDES_FILE)
    run.overrides = [str(text) for text in overrides] if isinstance(overrides, list) else []
    result = read_result(path)
    run.result = result if isinstance(result, dict) else {}
    final, found = run.result.pop("final", None), run.result.pop("best", None)
    if run.result.get("status") in FINISHED and isinstance(final, dict) and isinstance(found, dict):
        run.final, run.best = _numbers(final), found
    else:
        records = read_history(path)
        run.final, run.best = _numbers(records[-1]) if records else {}, best(records)
    run.best = {name: _numbers(at) for name, at in run.best.items() if isinstance(at, dict)}
    steps = run.result.get("steps") if run.result.get("status") in FINISHED else None
    run.steps = int(_number(steps) or run.final.get("step", 0))
    for name, values in _measured(path):
        run.measured |= {f"{name}/{metric}": value for metric, value in values.items()}
    return run


def read_history(path: Path) -> list[Record]:
    """The lines of metrics.jsonl that are whole, in the order of their steps, each step once."""
    try:
        text = (path / METRICS_FILE).read_text(errors="replace")
    except OSError:
        return []
    lines = text.split("\n")[:-1]
    try:
        parsed = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        parsed = [_json(line) for line in lines]
    found = {
        record["step"]: record
        for record in parsed
        if isinstance(record, dict) and isinstance(record.get("step"), int)
    }
    return [found[step] for step in sorted(found)]


def stamp(path: Path) -> str:
    """Changes whenever a file that `read_run` looks at does."""
    marks = []
    for file in (*(path / name for name in FILES), *sorted(path.glob("metrics-*.json"))):
        try:
            about = file.stat()
        except OSError:
            continue
        marks.append(f"{file.name} {about.st_mtime_ns} {about.st_size}")
    return "; ".join(marks)


def _changed(path: Path) -> float:
    times = []
    for name in FILES:
        try:
            times.append((path / name).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=0.0)


def _measured(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    for file in sorted(path.glob("metrics-*.json")):
        try:
            content = json.loads(file.read_text())
            yield file.stem.removeprefix("metrics-"), _numbers(content["values"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {str(name): value for name, value in values.items() if _number(value) is not None}


def _number(value: Any) -> float | None:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return value if plain and math.isfinite(value) else None


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _yaml(path: Path) -> Any:
    try:
        # OmegaConf's own loader takes ten times as long, for files that it wrote in plain YAML.
        return yaml.load(path.read_text(), _Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return None
