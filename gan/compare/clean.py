"""Find and remove what is not needed any more: checkpoints of the weaker runs, and runs that failed
or were empty. Tell what takes up the disk."""

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gan.compare.frame import Table
from gan.compare.query import ordered
from gan.compare.read import StoredRun
from gan.errors import UserError
from gan.run.directory import (
    CHECKPOINTS,
    EVALUATION_FILES,
    EVENT_FILES,
    SAMPLES,
    WRITTEN,
    claimed,
    in_use,
    remove_empty,
)
from gan.run.result import FINISHED, WELL_ENDED, Status
from gan.sweep import SWEEP_FILE

ALL = "all"
OTHERS = "other files"
USES = {
    "checkpoints": (f"{CHECKPOINTS}/*",),
    "events": (f"*/{EVENT_FILES}",),
    "samples": (f"{SAMPLES}/*",),
    "logs": ("*/*.log", "*/*.jsonl", "*/result.json", "*/metrics-*.json"),
}
"""Uses of the disk, each with patterns of a file's name after that of its folder."""


@dataclass
class Removal:
    """Files of one run that can be removed."""

    run_dir: Path
    what: str
    """All of the run, or its checkpoints."""
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
    """Yield what can be removed of the runs in a table.

    Interrupted runs are left alone because they can be resumed. Runs and sweeps that a process is
    working on are left alone as well.

    Args:
        keep: The number of completed runs, best first, that keep their checkpoints. If runs were
            measured in several ways that do not compare, so many of each.
        older: A run is only considered if its files have not changed for so many seconds.
        kinds: What to look for: "checkpoints" of finished runs, runs that "failed", and "empty"
            runs that ended before anything was logged or saved.
    """
    to_keep: set[int] = set()
    compared: set[int] = set()
    for way in table.ways_of(metric):
        best = ordered(table.measured_by(way), way).frame
        to_keep |= {*best[best["status"].isin(WELL_ENDED)].index[:keep]}
        compared |= {*best.index[best[way].notna()]}
    # Nobody knows how good a run is that has no value. One that diverged is good for nothing.
    compared |= {*table.frame.index[table.frame["status"] == Status.DIVERGED]}
    for number, status in table.frame["status"].items():
        run = table.runs[number]
        run_dir = Path(run.path)
        if status == "running" or max(0.0, time.time() - _last_change(run)) < older:
            continue
        if not run.is_ours:
            continue
        if (run_dir.parent / SWEEP_FILE).exists() and in_use(run_dir.parent):
            continue
        if status == "failed" and "failed" in kinds:
            what, reason = ALL, f"failed: {run.result.get('error') or 'for a reason unknown'}"
        elif status == "interrupted" and _is_empty(run) and "empty" in kinds:
            what, reason = ALL, "empty: ended before anything was logged or saved"
        elif status in FINISHED and number in compared - to_keep and "checkpoints" in kinds:
            what, reason = CHECKPOINTS, f"{status}, not among the {keep} best"
        else:
            continue
        if paths := _files_of_run(run_dir, what):
            size = sum(path.lstat().st_size for path in paths)
            yield Removal(run_dir, what, reason, paths, size)


def remove(removal: Removal) -> str | None:
    """Remove the files of a run, unless a process has started to work on it.

    Returns:
        The reason why something is left, or None if nothing is.
    """
    try:
        with claimed(removal.run_dir):
            for path in removal.paths:
                path.unlink(missing_ok=True)
            for folder in {path.parent for path in removal.paths} - {removal.run_dir}:
                remove_empty(folder)
            if removal.what == ALL:
                # Folders that a run makes early may have stayed empty.
                remove_empty(removal.run_dir / SAMPLES)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename}: cannot be removed ({error.strerror})"
    if removal.what == ALL and removal.run_dir.exists():
        return f"{removal.run_dir}: holds files that no run wrote, which are left"
    return None


def disk_use(folders: Sequence[Path]) -> dict[str, int]:
    """Return the bytes of all files in the folders and below them, by what they are for."""
    sizes = dict.fromkeys([*USES, OTHERS], 0)
    for path in {file.resolve(): file for folder in folders for file in _files_below(folder)}:
        tail = "/".join(path.parts[-2:])
        matching = [
            use for use, patterns in USES.items() if any(fnmatch(tail, p) for p in patterns)
        ]
        # Files may vanish while runs train.
        with suppress(OSError):
            sizes[(matching or [OTHERS])[0]] += path.stat().st_size
    return sizes


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        paths = (Path(place, name) for name in names)
        # What a link leads to lies elsewhere.
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _last_change(run: StoredRun) -> float:
    """Return the time when a file of a run last changed, those of its evaluations included."""
    times = [run.changed]
    for path in Path(run.path).glob(EVALUATION_FILES):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)


def _is_empty(run: StoredRun) -> bool:
    checkpoints = Path(run.path, CHECKPOINTS)
    return run.steps == 0 and not (checkpoints.is_dir() and any(checkpoints.iterdir()))


def _files_of_run(run_dir: Path, what: str) -> list[Path]:
    """Return the files of a run that have the names which runs give them, or its checkpoints.

    Its lock is not among them. It is removed with the directory.
    """
    patterns = [name for name in WRITTEN if what == ALL or name.startswith(f"{what}/")]
    paths = [path for pattern in patterns for path in sorted(run_dir.glob(pattern))]
    # A link may lead to files that do not belong to the run.
    return [p for p in paths if p.is_file() and not (p.is_symlink() or p.parent.is_symlink())]
