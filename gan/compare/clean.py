"""What of many runs can go: checkpoints of the lesser ones, and runs that came to nothing."""

import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gan.compare.frame import Table
from gan.compare.query import ordered
from gan.compare.read import FILES, Run
from gan.errors import Busy
from gan.run.directory import LOG_FILE, claimed, in_use
from gan.run.result import FINISHED
from gan.sweep import SWEEP_FILE

CHECKPOINTS = "checkpoints"


@dataclass
class Removal:
    """Files of one run that can go."""

    run_dir: Path
    reason: str
    paths: list[Path]
    size: int
    """Bytes."""


def removals(
    table: Table,
    metric: str,
    *,
    keep: int,
    older: float,
    kinds: Collection[str] = ("checkpoints", "failed", "empty"),
) -> Iterator[Removal]:
    """What can be removed of the runs in a table.

    Interrupted runs stay as they are, since they can go on; so does whatever a process is at
    work in, and all of a sweep that is.

    Args:
        keep: how many of the best finished runs keep their checkpoints.
        older: seconds for which nothing of a run may have changed.
        kinds: "checkpoints" of finished runs, whole runs that "failed", and "empty" ones that
            ended before anything was logged or saved.
    """
    best = ordered(table, metric).frame
    finished = best[best["status"].isin(FINISHED)]
    kept = set(finished[finished["status"] == "completed"].index[:keep])
    for number in table.frame.index:
        run, status = table.runs[number], table.frame["status"][number]
        run_dir = Path(run.path)
        sweep = run_dir.parent
        if status == "running" or ((sweep / SWEEP_FILE).exists() and in_use(sweep)):
            continue
        if time.time() - run.changed < older:
            continue
        if status == "failed" and "failed" in kinds:
            reason = f"failed: {run.result.get('error') or 'for a reason unknown'}"
            found = _written(run_dir)
        elif status == "interrupted" and _is_empty(run) and "empty" in kinds:
            reason, found = "empty: ended before anything was logged or saved", _written(run_dir)
        elif status in FINISHED and number not in kept and "checkpoints" in kinds:
            reason = f"{status}, not among the {keep} best"
            found = [path for path in [run_dir / CHECKPOINTS] if path.is_dir()]
        else:
            continue
        if found:
            yield Removal(run_dir, reason, found, sum(map(_size, found)))


def remove(removal: Removal) -> str | None:
    """Remove it, unless a process has begun to work there.

    Returns:
        Why something is left, or None.
    """
    try:
        with claimed(removal.run_dir):
            for path in removal.paths:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except Busy as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: cannot be removed ({error.strerror})"
    if removal.paths == [removal.run_dir / CHECKPOINTS]:
        return None
    if removal.run_dir.exists():
        return f"{removal.run_dir}: holds files that no run wrote, which are left"
    return None


def _is_empty(run: Run) -> bool:
    saved = Path(run.path, CHECKPOINTS)
    return run.steps == 0 and not (saved.is_dir() and any(saved.iterdir()))


def _written(run_dir: Path) -> list[Path]:
    """What a run writes, but for its lock, which goes with the directory."""
    names = [*FILES, LOG_FILE, "samples", CHECKPOINTS]
    patterns = ("events.out.tfevents.*", "metrics-*.json")
    found = [run_dir / name for name in names]
    found += [path for pattern in patterns for path in sorted(run_dir.glob(pattern))]
    # A link may lead to what others use.
    return [path for path in found if path.exists() and not path.is_symlink()]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())
