"""The outcome of a run, result.json, and the records in metrics.jsonl that it is made from."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gan.metrics.catalogue import METRICS, sign
from gan.run.directory import METRICS_FILE, RESULT_FILE
from gan.run.provenance import own_repository
from gan.system.files import read_bytes, read_text, write_text


class Status(str, Enum):
    """The states of a run and of an attempt at one. They equal their texts."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    """The objective did not improve for a while, see `trainer.patience`."""
    DIVERGED = "diverged"
    PRUNED = "pruned"
    FAILED = "failed"
    """The run raised an error, or its process died too often."""
    INTERRUPTED = "interrupted"
    """The run was asked to stop and has saved a checkpoint."""
    NEW = "new"
    """A sweep has planned the run, and nothing of it was trained."""
    RAISED = "raised"
    """An attempt ended in an error of the program."""
    REFUSED = "refused"
    """An attempt ended in a mistake of the user's: another attempt is of no use."""
    BUSY = "busy"
    """Another process trains the run."""
    LOST = "lost"
    """The process of an attempt died."""

    __str__ = str.__str__
    __hash__ = str.__hash__


WELL_ENDED = (Status.COMPLETED, Status.STOPPED)
"""A run that ended in one of these ways was trained as long as its configuration says."""

FINISHED = (*WELL_ENDED, Status.DIVERGED, Status.PRUNED)
"""A run that ended in one of these ways has nothing left to do."""

UNFINISHED = (Status.INTERRUPTED, Status.BUSY)
"""A job that ended in one of these ways goes on when its sweep is resumed."""

Result = dict[str, Any]
"""The content of result.json."""

Record = dict[str, Any]
"""A line of metrics.jsonl: the step, and the values that were logged there."""

Best = dict[str, dict[str, float]]
"""The best `value` of each metric, and its `step`."""


def read_result(run_dir: Path) -> Result | None:
    """Return the content of result.json; None where there is no such file, or a damaged one.

    Raises:
        OSError: the file cannot be read at the moment.
    """
    try:
        result: Result = json.loads(read_text(run_dir / RESULT_FILE))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    is_known = isinstance(result, dict) and result.get("status") in list(Status)
    return result if is_known else None


def write_result(run_dir: Path, result: Result) -> None:
    """Write result.json."""
    write_text(run_dir / RESULT_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")


def read_records(run_dir: Path) -> list[Record]:
    """Return the records in metrics.jsonl. Damaged lines are left out, and unfinished ones."""
    try:
        content = read_bytes(run_dir / METRICS_FILE)
    except FileNotFoundError:
        return []
    return [record for _, record in whole_lines(content)]


def whole_lines(content: bytes) -> Iterator[tuple[bytes, Record]]:
    """Yield the lines of a metrics.jsonl that are whole, and the record in each."""
    for line in content.split(b"\n")[:-1]:
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield line + b"\n", record


def make_result(
    cfg: DictConfig, run_dir: Path, *, status: Status, step: int, seconds: float, **facts: Any
) -> Result:
    """Return the result of a run that ended at `step`, for whatever reason."""
    records = read_records(run_dir)
    final = records[-1] if records else {}
    images = step * cfg.trainer.batch_size
    return {
        "status": status.value,
        "objective_name": cfg.metrics.objective,
        "objective": None if status is Status.DIVERGED else final.get(cfg.metrics.objective),
        "final": final,
        "best": best_values(records),
        "steps": step,
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 1) if seconds else None,
        "name": cfg.name,
        "seed": cfg.seed,
        "ended": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **facts,
        **environment(),
    }


def objective(result: Result) -> float:
    """Return the value that a sweeper improves.

    It is the worst possible infinity for a run that diverged or was never measured, and NaN for one
    that has no objective and did not diverge.
    """
    name, value = result["objective_name"], result["objective"]
    diverged = result["status"] == Status.DIVERGED
    if name is None and not diverged:
        return math.nan
    is_worst = diverged or value is None
    return (sign(name) if name else 1) * math.inf if is_worst else float(value)


def best_values(records: list[Record], earlier: Best | None = None) -> Best:
    """Return the best value of each metric, and its step, over the lines of metrics.jsonl.

    Args:
        earlier: the best values of earlier lines.
    """
    best = dict(earlier or {})
    for record in records:
        for name in (name for name in METRICS if name in record):
            value = record[name]
            if name not in best or sign(name) * (value - best[name]["value"]) < 0:
                best[name] = {"value": value, "step": record["step"]}
    return best


@cache
def environment() -> dict[str, Any]:
    """Return the versions that a result may depend on, and the commit of this package."""
    packages = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "tensorboard")
    versions = {"gan-sweeps": importlib.metadata.version("gan-sweeps")}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    own = own_repository()
    return {
        "versions": versions | {"python": platform.python_version()},
        "platform": platform.platform(),
        "git": own.summary() if own else None,
    }
