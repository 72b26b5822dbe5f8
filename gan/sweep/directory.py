"""The directory of a sweep: what was planned there, and which process works in it."""

import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from filelock import Timeout

from gan import __version__
from gan.config.checks import as_config, defines_result, flatten
from gan.config.paths import moved_data
from gan.config.trust import powers, refuse_untrusted, word_powers
from gan.errors import Busy, JobsFailed, NoAnswer, UserError
from gan.launchers.controller import LOG_FILE as CONTROLLER_LOG
from gan.launchers.controller import forget, is_controller
from gan.run.directory import (
    LOG_FILE,
    RESULT_FILE,
    claimed,
    in_use,
    refuse_link,
    refuse_links,
)
from gan.run.result import (
    FINISHED,
    Result,
    Status,
    make_result,
    read_records,
    read_result,
    write_result,
)
from gan.sweep import SWEEP_FILE
from gan.sweep.plan import JOB_NAME, Job
from gan.system.files import append_text, read_text, remove_leftovers, write_text
from gan.system.locks import LOOK_SECONDS, lock_at, way_to_free

JOBS_FILE = "jobs.jsonl"
LOCK_FILE = ".lock"
OWNER_FILE = ".owner"
STUDY_FILE = "study.jsonl"
"""The trials of a search, where no other storage is chosen."""
STUDY_DATABASE = "study.db"
"""The same in a search of an earlier version."""
STUDY_FILES = (STUDY_FILE, STUDY_DATABASE, f"{STUDY_DATABASE}-journal")
HANDOVER_SECONDS = 60.0
"""Seconds that a controller waits for the process that handed a sweep over to it."""
PROJECT = "gan-sweeps"
WRITTEN = (SWEEP_FILE, JOBS_FILE, "conf", "workers.log", CONTROLLER_LOG)
"""Names that a sweep writes, beside its runs, its study and files with a leading dot."""


@dataclass
class Sweep:
    """Everything that is stored of a sweep, except its runs."""

    SOURCES: ClassVar = "conf"
    """The folder of copies of the YAML files as they were when the sweep began."""

    path: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    """The jobs by name, in the order in which they were planned."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    """Each command line that planned jobs here: its time, its arguments, a hash of its points and
    seeds, and the names of each point's jobs."""
    swept: list[str] = field(default_factory=list)
    """The dotted keys that vary."""
    fixed: dict[str, str] = field(default_factory=dict)
    """The overrides that all runs share, by key."""
    sources: list[str] = field(default_factory=list)
    """The words of the command line that say where YAML files are, beside conf/."""
    threads: int | None = None
    """The threads of each run. Rounding depends on them, so they stay when a sweep is resumed."""
    launcher: dict[str, Any] = field(default_factory=dict)
    """The settings of the launcher of the last command, for a resume without a command."""
    search: dict[str, Any] = field(default_factory=dict)
    """The settings of a search that must not change from one command to the next."""

    @property
    def workers_log(self) -> Path:
        """The file for what processes say outside of their runs."""
        return self.path / "workers.log"

    def run_dir(self, name: str) -> Path:
        """Return the directory of a run."""
        return self.path / name

    def log(self, name: str) -> Path | None:
        """Return the file that tells what happened to a run; None where nothing was written."""
        logs = self.run_dir(name) / LOG_FILE, self.workers_log
        return next((log for log in logs if log.exists()), None)

    def save(self) -> None:
        """Write the sweep to its directory."""
        facts = {
            "project": PROJECT,
            "version": __version__,
            "swept": self.swept,
            "fixed": self.fixed,
            "sources": self.sources,
            "threads": self.threads,
            "launcher": self.launcher,
            "search": self.search,
            "commands": self.commands,
        }
        write_text(self.path / JOBS_FILE, _as_lines(self.jobs.values()))
        write_text(self.path / SWEEP_FILE, json.dumps(facts, indent=1) + "\n")

    def append(self, jobs: Sequence[Job]) -> None:
        """Write some of the jobs behind those that are stored, in a search, which has many trials.

        The line of a job that is stored already counts in place of the earlier one.
        """
        if jobs:
            append_text(self.path / JOBS_FILE, _as_lines(jobs))

    def status(self, name: str) -> tuple[Status, Result | None]:
        """Return the status of a run, and the content of its result.json if there is one."""
        run_dir = self.run_dir(name)
        result = read_result(run_dir)
        if result is not None and result["status"] in FINISHED:
            return Status(result["status"]), result
        if in_use(run_dir):
            return Status.BUSY, result
        if result is not None:
            return Status(result["status"]), result
        has_begun = (run_dir / "checkpoints").is_dir()
        return Status.INTERRUPTED if has_begun else Status.NEW, None

    def last_value(self, name: str, key: str) -> float | None:
        """Return the newest value of a key that a run has recorded; None if it never was.

        Not every record has every value: some steps update one of the networks alone.
        """
        run_dir = self.run_dir(name)
        if value := (read_result(run_dir) or {}).get("final", {}).get(key):
            return float(value)
        records = reversed(read_records(run_dir))
        return next((record[key] for record in records if record.get(key) is not None), None)

    def pending(self, names: list[str], *, retry_failed: bool) -> list[str]:
        """Return the runs that have something left to do."""
        done = FINISHED if retry_failed else (*FINISHED, Status.FAILED)
        return [name for name in names if self.status(name)[0] not in done]

    def record_failure(self, name: str, reason: str | None) -> None:
        """Write the result.json of a run whose process could not write it.

        A run that another process trains is left alone.
        """
        run_dir = self.run_dir(name)
        # Where the disk is full, the failure is still reported.
        with suppress(OSError, Busy), claimed(run_dir):
            records = read_records(run_dir)
            result = make_result(
                as_config(self.jobs[name].config),
                run_dir,
                status=Status.FAILED,
                step=records[-1]["step"] if records else 0,
                seconds=0.0,
                error=reason,
                choices=self.jobs[name].choices,
            )
            write_result(run_dir, result)

    def forget_failure(self, name: str) -> None:
        """Remove the result of a failed run that starts again and so counts as failed no longer."""
        if self.status(name)[0] is Status.FAILED:
            (self.run_dir(name) / RESULT_FILE).unlink()


def read_sweep(path: Path) -> Sweep | None:
    """Return the sweep that is stored in a directory; None for no directory, or an empty one.

    Raises:
        UserError: the directory holds something else, the sweep of another version, a link in
            place of what a sweep writes, or jobs that would run what this user does not know.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise UserError(f"{path}: not a directory")
    for entry in path.iterdir():
        if entry.name.startswith(".") or entry.name in (*WRITTEN, *STUDY_FILES):
            refuse_link(entry)
    if not (path / SWEEP_FILE).exists():
        # These files may stem from a sweep that was killed before it was planned, or from Hydra.
        early = {JOBS_FILE, *STUDY_FILES, "multirun.yaml"}
        if _has_copies_alone(path / Sweep.SOURCES):
            early.add(Sweep.SOURCES)
        if all(entry.name in early or entry.name.startswith(".") for entry in path.iterdir()):
            return None
        raise UserError(
            f"{path}: not a sweep directory and not empty, it has no {SWEEP_FILE}; "
            "choose another hydra.sweep.dir"
        )
    try:
        facts = json.loads(read_text(path / SWEEP_FILE))
        project, version = facts["project"], facts["version"]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{path / SWEEP_FILE}: is not one of {PROJECT}, or damaged; restore it, or choose "
            "another hydra.sweep.dir"
        ) from None
    if (project, version) != (PROJECT, __version__):
        raise UserError(
            f"{path}: this sweep was made by {project} {version}, and this is "
            f"{PROJECT} {__version__}; go on with that version or in another directory"
        )
    jobs = _read_jobs(path, grows=bool(facts["search"]))
    planned = [name for command in facts["commands"] for names in command["jobs"] for name in names]
    if missing := [name for name in planned if name not in jobs]:
        raise damaged_jobs(path, f"lacks the run {missing[0]}")
    for job in jobs.values():
        if not re.fullmatch(JOB_NAME, job.name) or job.name in (".", ".."):
            raise UserError(
                f"{path / JOBS_FILE}: {job.name} is not a name that a sweep gives a run"
            )
        refuse_link(path / job.name)
        if (path / job.name).is_dir():
            refuse_links(path / job.name)
        refuse_untrusted(path / JOBS_FILE, [*powers(job.config), *word_powers(job.overrides)])
    words = [*facts["sources"], *(f"{key}={text}" for key, text in facts["fixed"].items())]
    stored = [*word_powers(words), *powers(facts["launcher"], "hydra.launcher.")]
    refuse_untrusted(path / SWEEP_FILE, stored)
    return Sweep(
        path=path,
        jobs=jobs,
        commands=facts["commands"],
        swept=facts["swept"],
        fixed=facts["fixed"],
        sources=facts["sources"],
        threads=facts["threads"],
        launcher=facts["launcher"],
        search=facts["search"],
    )


def _as_lines(jobs: Iterable[Job]) -> str:
    return "".join(json.dumps(job.as_dict()) + "\n" for job in jobs)


def _read_jobs(path: Path, *, grows: bool) -> dict[str, Job]:
    """Return the jobs in jobs.jsonl by name.

    Args:
        grows: lines were appended, so a process that was killed may have left half a line at the
            end. Its trial has not begun, and gets its jobs again.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        text = read_text(path / JOBS_FILE)
        lines = (text[: text.rfind("\n") + 1] if grows else text).splitlines()
        return {job.name: job for job in (Job(**json.loads(line)) for line in lines)}
    except FileNotFoundError:
        raise damaged_jobs(path, "is missing") from None
    except (ValueError, TypeError):
        raise damaged_jobs(path, "is damaged") from None


def damaged_jobs(path: Path, problem: str) -> UserError:
    """Return the error for a jobs.jsonl that is not as the sweep in `path` left it."""
    return UserError(
        f"{path / JOBS_FILE}: {problem}; restore it, or choose another hydra.sweep.dir"
    )


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make the directory and keep other processes out of it.

    What a killed process was writing there is removed first. A directory in which no sweep was
    saved is removed, and so is a new sweep that a mistake of the user's ended before a run began.
    The system frees the lock of a dead process.

    Raises:
        UserError: another process works in it.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    lock, owner = lock_at(path / LOCK_FILE), path / OWNER_FILE
    try:
        # A controller may begin before the process that handed the sweep over has ended.
        lock.acquire(timeout=HANDOVER_SECONDS if is_controller() else LOOK_SECONDS)
    except Timeout:
        who = (
            owner.read_text(encoding="utf-8", errors="replace").strip()
            if owner.exists()
            else "another process"
        )
        what = f"{who} is at work in this sweep directory"
        raise UserError(f"{path}: {what}{way_to_free(lock)}") from None
    if not is_controller():
        forget(path)
    present = {entry.name for entry in path.iterdir()}
    try:
        remove_leftovers(path)
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        write_text(owner, f"process {os.getpid()} on {socket.gethostname()} (since {now})\n")
        yield
    except (NoAnswer, JobsFailed):
        raise
    except UserError:
        if SWEEP_FILE not in present and not _has_runs(path):
            for name in {*WRITTEN, *STUDY_FILES} - {Sweep.SOURCES, *present}:
                (path / name).unlink(missing_ok=True)
        raise
    finally:
        owner.unlink(missing_ok=True)
        if not (path / SWEEP_FILE).exists():
            shutil.rmtree(path / Sweep.SOURCES, ignore_errors=True)
            (path / LOCK_FILE).unlink(missing_ok=True)
        lock.release()
        for folder in created:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _has_copies_alone(folder: Path) -> bool:
    """Return whether a folder holds nothing but the numbered copies that a sweep makes.

    A user's own folder of YAML files may have the same name.
    """
    entries = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return all(name.isdecimal() or name.startswith(".") for name in entries)


def _has_runs(path: Path) -> bool:
    """Return whether a run has begun in the directory of a sweep."""
    return any(
        entry.is_dir() and not entry.name.startswith(".") and entry.name != Sweep.SOURCES
        for entry in path.iterdir()
    )


def with_free_keys(stored: Job, asked: Mapping[str, Any]) -> Job:
    """Return a stored job with those keys of `asked` that do not change its result.

    The places of its data are such, where the data are the same.
    """

    def merged(old: Any, new: Any, key: str) -> Any:
        is_free = key and not defines_result(key)
        if isinstance(old, dict) and isinstance(new, dict) and not is_free:
            return {
                name: merged(value, new.get(name, value), f"{key}.{name}" if key else name)
                for name, value in old.items()
            }
        is_kept = (defines_result(key) and key not in moved) or key == "threads"
        return old if is_kept else new

    moved = moved_data(stored.flat(), flatten(dict(asked)))
    return replace(stored, config=merged(stored.config, asked, ""))
