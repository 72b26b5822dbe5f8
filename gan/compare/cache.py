"""Runs that were read before and have not changed since, kept outside of their directories."""

import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gan.compare.read import Run, read_run, stamp
from gan.sweep import SWEEP_FILE

FORMAT = 1
"""Of what is kept: counted up when the fields of a Run change, or what they are read from."""

LAST = "\U0010ffff"
"""Sorts behind every other character."""

_TABLE = "CREATE TABLE IF NOT EXISTS runs (path TEXT PRIMARY KEY, stamp TEXT, content TEXT)"


def cache_file() -> Path:
    """Below the folder that GAN_DATA names, or ~/.cache/gan; it can be deleted at any time."""
    return Path(os.environ.get("GAN_DATA", "~/.cache/gan"), f"runs-{FORMAT}.sqlite").expanduser()


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Each run as its files say, of which only those that changed are read.

    Where the cache cannot be written or is damaged, everything is read.
    """
    stamps = {str(path.resolve()): stamp(path) for path in paths}
    known = _load(os.path.commonpath(stamps) if stamps else "")
    runs, fresh = [], {}
    plans: dict[Path, dict[str, Any]] = {}
    for path in paths:
        key = str(path.resolve())
        stored = known.get(key)
        if stored and stored[0] == stamps[key]:
            run = Run(**json.loads(stored[1]))
            run.path = str(path)
        else:
            run = read_run(path, _planned(path, plans))
            fresh[key] = stamps[key], json.dumps(asdict(run), default=str)
        runs.append(run)
    gone = [key for key in known.keys() - stamps.keys() if not Path(key).is_dir()]
    if fresh or gone:
        _save(fresh, gone)
    return runs


def _load(folder: str) -> dict[str, tuple[str, str]]:
    """What is kept of runs at or below a folder."""
    query = "SELECT path, stamp, content FROM runs WHERE path >= ? AND path < ?"
    try:
        with closing(_connect()) as database:
            rows = database.execute(query, (folder, folder + LAST)).fetchall()
    except (OSError, sqlite3.Error):
        return {}
    return {path: (stamp, content) for path, stamp, content in rows}


def _save(fresh: dict[str, tuple[str, str]], gone: Sequence[str]) -> None:
    rows = [(path, *stored) for path, stored in fresh.items()]
    for attempt in range(2):
        try:
            with closing(_connect()) as database, database:
                database.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", rows)
                database.executemany("DELETE FROM runs WHERE path = ?", [(path,) for path in gone])
            return
        except sqlite3.OperationalError:
            return
        except sqlite3.DatabaseError:
            if attempt == 0:
                with suppress(OSError):
                    cache_file().unlink()
        except OSError:
            return


def _connect() -> sqlite3.Connection:
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=5)
    database.execute(_TABLE)
    return database


def _planned(path: Path, plans: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """The configuration that a sweep planned for a run."""
    sweep = path.parent
    if sweep not in plans:
        plans[sweep] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):
            if (sweep / SWEEP_FILE).exists():
                for line in (sweep / "jobs.jsonl").read_text().splitlines():
                    job = json.loads(line)
                    plans[sweep][job["name"]] = job["config"]
    config = plans[sweep].get(path.name)
    return config if isinstance(config, dict) else {}
