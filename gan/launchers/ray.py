"""A pool of Ray tasks, on a cluster that runs or on one started here."""

import importlib.util
import logging
import shutil
import socket
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.errors import UserError
from gan.launchers.attempt import LOCK_PATIENCE, attempt, placed
from gan.launchers.pool import Ended, Event, Started, Task, withdrawn
from gan.launchers.tail import Tail
from gan.run.result import FINISHED, objective, read_result, write_result
from gan.sweep.directory import Sweep

POLL = 0.5
"""Seconds between looks at what the runs have written."""

log = logging.getLogger(__name__)


class RayPlaces:
    """A cluster, as the settings of hydra/launcher=ray see it."""

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings

    def check(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError('hydra/launcher=ray: Ray is not installed; pip install -e ".[ray]"')

    def threads(self, device: str, jobs: int) -> int:
        return int(self._settings["num_cpus"])

    def count(self, device: str, threads: int) -> int | None:
        n_jobs: int | None = self._settings["n_jobs"]
        return n_jobs

    def width(self, device: str, threads: int) -> int | None:
        return self.count(device, threads)

    def pool(self, sweep: Sweep, names: list[str]) -> "RayPool":
        return RayPool(sweep, self._settings)


@dataclass
class _Job:
    """A task in Ray's hands."""

    ref: Any
    task: Task
    tail: Tail
    running: bool = False
    stopping: bool = False
    pruning: bool = False


class RayPool:
    """Ray decides which tasks run, and where; `n_jobs` is kept here."""

    def __init__(self, sweep: Sweep, settings: dict[str, Any]):
        """
        Raises:
            UserError: there is no such cluster.
        """
        assert sweep.threads is not None
        self._ray = _connected(settings)
        self._folder = sweep.path.resolve() / ".ray"
        self._threads = sweep.threads
        self._n_jobs: int | None = settings["n_jobs"]
        self._one_gpu: bool = settings["num_gpus"] > 0
        self._waiting: deque[Task] = deque()
        self._events: deque[Event] = deque()
        self._jobs: dict[str, _Job] = {}
        self._looked = 0.0
        # Attempts are counted by others, who tell of each.
        self._work = self._ray.remote(
            num_cpus=settings["num_cpus"],
            num_gpus=settings["num_gpus"],
            resources=settings["resources"],
            max_retries=0,
        )(work)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        self._assign()

    def stop(self, name: str) -> None:
        if withdrawn(self._waiting, name):
            self._events.append(Ended(name, "interrupted"))
            return
        if job := self._jobs.get(name):
            job.stopping = True
            # Comes as SIGINT where it runs.
            self._ray.cancel(job.ref)

    def prune(self, name: str) -> None:
        if job := self._jobs.get(name):
            job.pruning = True
            self._ray.cancel(job.ref)

    def kill(self, name: str) -> None:
        if job := self._jobs.get(name):
            job.stopping = True
            self._ray.cancel(job.ref, force=True)

    def wait(self, timeout: float) -> Event | None:
        if self._events:
            return self._events.popleft()
        if not self._jobs:
            time.sleep(timeout)
            return None
        by_ref = {job.ref: job for job in self._jobs.values()}
        over, _ = self._ray.wait(list(by_ref), timeout=timeout)
        if time.monotonic() - self._looked > POLL:
            self._looked = time.monotonic()
            self._look()
        for ref in over:
            self._over(by_ref[ref])
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        self._waiting.clear()
        for job in self._jobs.values():
            self._ray.cancel(job.ref, force=True)
        self._jobs.clear()
        self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _assign(self) -> None:
        while self._waiting and (self._n_jobs is None or len(self._jobs) < self._n_jobs):
            task = self._waiting.popleft()
            self._mark(task.name).unlink(missing_ok=True)
            ref = self._work.remote(
                placed(task.config, self._threads, one_gpu=self._one_gpu),
                str(task.run_dir.resolve()),
                task.overrides,
                str(self._mark(task.name)),
            )
            self._jobs[task.name] = _Job(ref, task, Tail(task))

    def _look(self) -> None:
        begun = {path.name for path in self._folder.iterdir()}
        for name, job in self._jobs.items():
            if name in begun and not job.running:
                job.running = True
                self._events.append(Started(name))
            if job.running:
                self._events.extend(job.tail.news())

    def _over(self, job: _Job) -> None:
        del self._jobs[job.task.name]
        self._events.append(self._ending(job))
        self._assign()

    def _ending(self, job: _Job) -> Ended:
        name = job.task.name
        reason: str | None = None
        told: dict[str, Any] = {}
        try:
            told = self._ray.get(job.ref)
        except self._ray.exceptions.RayError as error:
            reason = f"its Ray task ended in {type(error).__name__}: {_line(error)}"
        result = read_result(job.task.run_dir)
        if job.pruning and result and result["status"] == "interrupted":
            # Ray sends no signal but this one.
            result["status"] = "pruned"
            write_result(job.task.run_dir, result)
        if result and result["status"] in FINISHED:
            return Ended(name, result["status"], objective(result))
        if job.stopping:
            return Ended(name, "interrupted")
        if told.get("status") in ("raised", "refused", "lost"):
            return Ended(name, told["status"], reason=told["reason"])
        return Ended(name, "lost", reason=reason or told.get("reason"))

    def _mark(self, name: str) -> Path:
        """A file that is there once a task has begun."""
        return self._folder / name


def work(config: dict[str, Any], run_dir: str, overrides: list[str], mark: str) -> dict[str, Any]:
    """What a Ray task does: an attempt at a run."""
    Path(mark).touch()
    return attempt(config, Path(run_dir), overrides, lambda *_: None, patience=LOCK_PATIENCE)


def _connected(settings: dict[str, Any]) -> Any:
    import ray

    address = settings["address"]
    _refuse_silent(address)
    ours = {"object_store_memory": settings["object_store_memory"], "include_dashboard": False}
    try:
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(ours if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"hydra.launcher.address={address}: {_line(error)}") from None
    wanted = {"CPU": settings["num_cpus"], "GPU": settings["num_gpus"], **settings["resources"]}
    if not any(
        all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items())
        for node in ray.nodes()
    ):
        words = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
        if address == "local":
            ray.shutdown()
            raise UserError(f"hydra/launcher=ray: this machine does not have {words} for a run")
        log.warning("no node of the Ray cluster has %s for a run; waiting for one", words)
    return ray


def _refuse_silent(address: str) -> None:
    """Ray itself asks for minutes, and says so in many lines."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        reason = f"no Ray cluster answers there ({error})"
        raise UserError(f"hydra.launcher.address={address}: {reason}") from None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
