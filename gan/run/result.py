"""Reading back what a run wrote, and result.json, which says how it ended."""

import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gan.files import write_text
from gan.metrics.catalogue import METRICS, sign

if TYPE_CHECKING:
    from pandas import DataFrame

METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
FINISHED = ("completed", "diverged", "pruned")
"""The states in which a run has nothing left to do; others are failed and interrupted."""

Result = dict[str, Any]

Record = dict[str, Any]
"""A line of metrics.jsonl: the step, and the values logged there."""


def read_result(run_dir: Path) -> Result | None:
    """The content of result.json, or None where there is none that can be read."""
    try:
        result: Result = json.loads((run_dir / RESULT_FILE).read_text())
    except (OSError, ValueError):
        return None
    return result


def read_records(run_dir: Path) -> list[Record]:
    """The lines of metrics.jsonl; a last line still being written is left out."""
    path = run_dir / METRICS_FILE
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def load(*paths: str | Path, keys: Sequence[str] = ()) -> "DataFrame":
    """A table of the runs at and anywhere below the paths, a row for each.

    Columns are `run` (its directory's name), the configuration keys in which runs differ (by
    their shortest names, such as `lr`), `status`, the last value of everything logged, `best/NAME`
    of every metric, what scripts/evaluate.py measured as `OPTION/NAME`, `steps`, `images`,
    `seconds`, `images_per_second`, `changed` (when it last wrote, UTC), `error` and `path`.
    Runs may go on meanwhile; what did not change since an earlier call is not read again.

    Args:
        keys: further keys of the configuration that are to be columns, such as `trainer.pac`.

    Raises:
        UserError: there is no run, or no such key.
    """
    # Most users of this module have no use for pandas, which takes half a second.
    from gan.compare.frame import read_table

    return read_table(paths, keys).frame


def history(run_dir: str | Path) -> "DataFrame":
    """The lines of a run's metrics.jsonl that are whole, with the columns `step`, `epoch` and
    whatever was logged; NaN where a line has no such value.

    Raises:
        UserError: the directory is not a run's.
    """
    from gan.compare.frame import read_curves

    return read_curves(Path(run_dir))


def write_result(run_dir: Path, result: Result) -> None:
    write_text(run_dir / RESULT_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")


def outcome(
    cfg: DictConfig, run_dir: Path, *, status: str, step: int, seconds: float, **facts: Any
) -> Result:
    """What result.json says of a run that ended, for whatever reason, at that step."""
    records = read_records(run_dir)
    final = records[-1] if records else {}
    images = step * cfg.trainer.batch_size
    return {
        "status": status,
        "objective_name": cfg.metrics.objective,
        "objective": None if status == "diverged" else final.get(cfg.metrics.objective),
        "final": final,
        "best": best(records),
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
    """What a sweeper improves; of a run that diverged, the worst that there is."""
    value = result["objective"]
    return sign(result["objective_name"]) * math.inf if value is None else float(value)


def best(records: list[Record]) -> dict[str, dict[str, float]]:
    """The best value of each metric and its step, over the lines of metrics.jsonl."""
    found: dict[str, dict[str, float]] = {}
    for record in records:
        for name in METRICS.keys() & record.keys():
            value = record[name]
            if name not in found or sign(name) * (value - found[name]["value"]) < 0:
                found[name] = {"value": value, "step": record["step"]}
    return found


@cache
def environment() -> dict[str, Any]:
    """The versions a result may depend on, and the commit this package stands at."""
    packages = ("torch", "torchvision", "numpy", "hydra-core", "omegaconf", "tensorboard")
    versions = {"gan-sweeps": importlib.metadata.version("gan-sweeps")}
    versions |= {name: importlib.metadata.version(name) for name in packages}
    return {
        "versions": versions | {"python": platform.python_version()},
        "platform": platform.platform(),
        "git": _git(),
    }


def _git() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie inside some other project's checkout.
        if Path(ask("rev-parse", "--show-toplevel")).resolve() != root:
            return None
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
