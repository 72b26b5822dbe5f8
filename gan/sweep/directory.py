"""The directory of a sweep: what it was planned to be, and who works in it."""

import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from gan import __version__
from gan.config.checks import defines_result
from gan.errors import UserError
from gan.files import write_text
from gan.run.directory import LOG_FILE
from gan.run.result import (
    FINISHED,
    RESULT_FILE,
    Result,
    outcome,
    read_records,
    read_result,
    write_result,
)
from gan.sweep import SWEEP_FILE
from gan.sweep.plan import Job

JOBS_FILE = "jobs.jsonl"
LOCK_FILE = ".lock"
OWNER_FILE = ".owner"
PROJECT = "gan-sweeps"


@dataclass
class Sweep:
    """What is stored of a sweep, beside its runs."""

    SOURCES: ClassVar = "conf"
    """The YAML files as they were when the sweep began."""

    path: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    """By name, in the order they were planned."""
    commands: list[dict[str, Any]] = field(default_factory=list)
    """Each command line that planned jobs here: when, its words, `points`, `seeds` and the
    names of its jobs per point."""
    swept: list[str] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)
    threads: int | None = None
    """Of each run: rounding depends on it, so it stays when a sweep is resumed elsewhere."""
    launcher: dict[str, Any] = field(default_factory=dict)
    """The settings of the last command, for a resume without one."""
    search: dict[str, Any] = field(default_factory=dict)
    """Of a sweep whose points are chosen as it goes: what may not change from one command to
    the next, by name."""

    @property
    def workers_log(self) -> Path:
        """What processes say outside of their runs."""
        return self.path / "workers.log"

    def run_dir(self, name: str) -> Path:
        return self.path / name

    def log(self, name: str) -> Path:
        """Where to look for what happened to a run."""
        log = self.run_dir(name) / LOG_FILE
        return log if log.exists() else self.workers_log

    def save(self) -> None:
        facts = {
            "project": PROJECT,
            "version": __version__,
            "swept": self.swept,
            "fixed": self.fixed,
            "threads": self.threads,
            "launcher": self.launcher,
            "search": self.search,
            "commands": self.commands,
        }
        lines = [json.dumps(job.as_dict()) + "\n" for job in self.jobs.values()]
        write_text(self.path / JOBS_FILE, "".join(lines))
        write_text(self.path / SWEEP_FILE, json.dumps(facts, indent=1) + "\n")

    def status(self, name: str) -> tuple[str, Result | None]:
        """`new`, `interrupted`, or the status in the run's result.json, and that file."""
        run_dir = self.run_dir(name)
        result = read_result(run_dir)
        if result is not None:
            return str(result["status"]), result
        return ("interrupted" if (run_dir / "checkpoints").is_dir() else "new"), None

    def final(self, name: str) -> dict[str, Any]:
        """The last record of a run that has ended."""
        result = read_result(self.run_dir(name))
        assert result is not None
        final: dict[str, Any] = result["final"]
        return final

    def pending(self, names: list[str], *, retry_failed: bool) -> list[str]:
        """Those that have something left to do."""
        settled = FINISHED if retry_failed else (*FINISHED, "failed")
        return [name for name in names if self.status(name)[0] not in settled]

    def record_failure(self, name: str, reason: str | None) -> None:
        """result.json of a run whose process could not write it, or not the whole story."""
        run_dir = self.run_dir(name)
        # Where the disk is full, the failure is still told.
        with suppress(OSError):
            run_dir.mkdir(parents=True, exist_ok=True)
            records = read_records(run_dir)
            result = outcome(
                OmegaConf.create(self.jobs[name].config),
                run_dir,
                status="failed",
                step=records[-1]["step"] if records else 0,
                seconds=0.0,
                error=reason,
            )
            write_result(run_dir, result)

    def forget_failure(self, name: str) -> None:
        """A failed run that starts again is a failed one no more, even if it is interrupted."""
        if self.status(name)[0] == "failed":
            (self.run_dir(name) / RESULT_FILE).unlink()


def read_sweep(path: Path) -> Sweep | None:
    """The sweep stored in a directory; None where there is no directory, or an empty one.

    Raises:
        UserError: the directory holds something else, or the sweep of another version.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise UserError(f"{path}: not a directory")
    if not (path / SWEEP_FILE).exists():
        # The start of a sweep that was killed before it was planned, or Hydra's own sweepers.
        begun = {Sweep.SOURCES, JOBS_FILE, "multirun.yaml"}
        if all(entry.name in begun or entry.name.startswith(".") for entry in path.iterdir()):
            return None
        raise UserError(
            f"{path}: not a sweep directory and not empty, it has no {SWEEP_FILE}; "
            "choose another hydra.sweep.dir"
        )
    try:
        facts = json.loads((path / SWEEP_FILE).read_text())
        project, version = facts["project"], facts["version"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: {SWEEP_FILE} is not one of {PROJECT}") from None
    if (project, version) != (PROJECT, __version__):
        raise UserError(
            f"{path}: this sweep was made by {project} {version}, and this is "
            f"{PROJECT} {__version__}; go on with that version or in another directory"
        )
    lines = (path / JOBS_FILE).read_text().splitlines()
    jobs = [Job(**json.loads(line)) for line in lines]
    return Sweep(
        path=path,
        jobs={job.name: job for job in jobs},
        commands=facts["commands"],
        swept=facts["swept"],
        fixed=facts["fixed"],
        threads=facts["threads"],
        launcher=facts["launcher"],
        search=facts["search"],
    )


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Make the directory and keep other processes out of it; one in which no sweep was saved
    is removed. The system frees the lock of a process that died.

    Raises:
        UserError: another process works in it.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    lock, owner = FileLock(path / LOCK_FILE), path / OWNER_FILE
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = owner.read_text().strip() if owner.exists() else "another process"
        raise UserError(f"{path}: {who} is at work in this sweep directory") from None
    try:
        now = datetime.now().isoformat(sep=" ", timespec="seconds")
        write_text(owner, f"process {os.getpid()} on {socket.gethostname()} (since {now})\n")
        yield
    finally:
        owner.unlink(missing_ok=True)
        if not (path / SWEEP_FILE).exists():
            shutil.rmtree(path / Sweep.SOURCES, ignore_errors=True)
            (path / LOCK_FILE).unlink(missing_ok=True)
        lock.release()
        for folder in created:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def with_free_keys(stored: Job, asked: Mapping[str, Any]) -> Job:
    """A stored job with those keys of another configuration that leave its result alone."""

    def merged(old: Any, new: Any, key: str) -> Any:
        if isinstance(old, dict) and isinstance(new, dict):
            return {
                name: merged(value, new.get(name, value), f"{key}.{name}" if key else name)
                for name, value in old.items()
            }
        return old if defines_result(key) or key == "threads" else new

    return Job(stored.name, stored.identity, stored.overrides, merged(stored.config, asked, ""))
