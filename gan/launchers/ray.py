"""The Ray launcher: tasks on a Ray cluster that runs already, or on one that is started here."""

import importlib.util
import logging
import shutil
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gan.errors import UserError
from gan.launchers.attempt import LOCK_PATIENCE, RunFollower, execute, place_config
from gan.launchers.base import Ended, Event, plain
from gan.launchers.cluster import ClusterJob, ClusterLauncher, finished_ending
from gan.launchers.followers import Place
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status, read_result, write_result

SECONDS_BETWEEN_LOOKS = 0.5
"""Seconds between two looks at what the runs have written."""

log = logging.getLogger(__name__)


@dataclass
class _RayJob(ClusterJob):
    is_pruning: bool = False


class RayLauncher(ClusterLauncher):
    """A launcher whose attempts are Ray tasks. Ray decides where they run; we keep to `n_jobs`.

    Args:
        address: `local` starts Ray on this machine, `auto` takes the cluster that it is part of,
            HOST:PORT another cluster.
        num_cpus: the cores of a run.
        num_gpus: the GPUs of a run, which may be a fraction.
        resources: further resources of a run, by the names that the cluster gives them.
        object_store_memory: bytes, where Ray is started here; None takes Ray's default.
    """

    def __init__(
        self,
        *,
        address: str = "local",
        num_cpus: int = 1,
        num_gpus: float = 0,
        resources: dict[str, float] | None = None,
        object_store_memory: int | None = None,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.address = address
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.resources: dict[str, float] = plain(resources) or {}
        self.object_store_memory = object_store_memory
        self._looked = 0.0

    def check(self) -> None:
        """See Launcher."""
        if importlib.util.find_spec("ray") is None:
            raise UserError(
                'hydra/launcher=ray: Ray is not installed; pip install "gan-sweeps[ray]"'
            )

    def threads_per_run(self, device: str, runs: int) -> int:
        """See Launcher."""
        return max(1, self.num_cpus // self.processes)

    @property
    def place(self) -> Place:
        """See ClusterLauncher."""
        return Place(self.num_cpus, self.num_gpus, "num_cpus", "num_gpus")

    def connect(self, folder: Path) -> None:
        """See ClusterLauncher."""
        self._ray = self._connected_ray()
        self._folder = folder / ".ray"
        self._task = self._ray.remote(
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
            resources=self.resources,
            # The sweep counts the attempts, and must be told of each.
            max_retries=0,
        )(execute_task)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        super().submit(attempt)
        self._submit_waiting()

    def cancel(self, job: _RayJob) -> None:
        """See ClusterLauncher."""
        # The cancellation arrives as SIGINT in the task's process.
        if not job.is_pruning:
            self._ray.cancel(job.handle)

    def prune(self, name: str) -> None:
        """See Launcher."""
        job = self._jobs.get(name)
        if job and not job.is_pruning and not job.is_stopping:
            job.is_pruning = True
            self._ray.cancel(job.handle)

    def kill(self, name: str) -> None:
        """See Launcher."""
        if job := self._jobs.get(name):
            job.is_stopping = True
            self._ray.cancel(job.handle, force=True)

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        if self._events:
            return self._events.popleft()
        if not self._jobs:
            time.sleep(timeout)
            return None
        by_handle = {job.handle: job for job in self._jobs.values()}
        over, _ = self._ray.wait(list(by_handle), timeout=timeout)
        if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            begun = {path.name for path in self._folder.iterdir()}
            for name, job in self._jobs.items():
                self.note_progress(job, has_begun=name in begun)
        for handle in over:
            job = by_handle[handle]
            del self._jobs[job.attempt.name]
            self._events.append(Ended(job.attempt.name, self._ending(job)))
            self._submit_waiting()
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See Launcher."""
        self._waiting.clear()
        for job in self._jobs.values():
            self._ray.cancel(job.handle, force=True)
        self._jobs.clear()
        self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _submit_waiting(self) -> None:
        while self._waiting and (self.n_jobs is None or len(self._jobs) < self.n_jobs):
            attempt = self._waiting.popleft()
            mark = self._mark(attempt.name)
            mark.unlink(missing_ok=True)
            config = place_config(attempt.config, self._threads, one_gpu=self.num_gpus > 0)
            fields = asdict(attempt) | {"config": config, "run_dir": attempt.run_dir.resolve()}
            handle = self._task.remote(fields, str(mark), self.processes)
            self._jobs[attempt.name] = _RayJob(handle, attempt, RunFollower(attempt))

    def _ending(self, job: _RayJob) -> Ending:
        run_dir = job.attempt.run_dir
        reason: str | None = None
        returned: Ending | None = None
        try:
            returned = Ending(*self._ray.get(job.handle))
        except self._ray.exceptions.RayError as error:
            reason = f"its Ray task ended in {type(error).__name__}: {_first_line(error)}"
        if job.is_pruning:
            result = read_result(run_dir)
            if result and result["status"] == Status.INTERRUPTED:
                # Ray knows no signal to prune a run, so it was interrupted.
                write_result(run_dir, result | {"status": Status.PRUNED.value})
        if finished := finished_ending(run_dir):
            return finished
        if job.is_stopping:
            return Ending(Status.INTERRUPTED)
        if returned and returned.status in (Status.RAISED, Status.REFUSED, Status.BUSY):
            return Ending(Status(returned.status), reason=returned.reason)
        return Ending(Status.LOST, reason=reason or (returned.reason if returned else None))

    def _mark(self, name: str) -> Path:
        """Return the file that exists once an attempt has begun."""
        return self._folder / name

    def _connected_ray(self) -> Any:
        import ray

        self._refuse_silent_address()
        own_cluster: dict[str, Any] = {
            "object_store_memory": self.object_store_memory,
            "include_dashboard": False,
        }
        try:
            ray.init(
                self.address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(own_cluster if self.address == "local" else {}),
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = _first_line(error)
            raise UserError(f"hydra.launcher.address={self.address}: {reason}") from None
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, **self.resources}
        if not any(
            all(node["Resources"].get(name, 0) >= amount for name, amount in wanted.items())
            for node in ray.nodes()
        ):
            words = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
            if self.address == "local":
                ray.shutdown()
                raise UserError(f"hydra/launcher=ray: this machine does not have {words} for a run")
            log.warning("no node of the Ray cluster has %s for a run; waiting for one", words)
        return ray

    def _refuse_silent_address(self) -> None:
        """Refuse an address where nothing answers. Ray itself tries for minutes before it says so.

        Raises:
            UserError: nothing answers.
        """
        host, _, port = self.address.rpartition(":")
        if not (host and port.isdecimal()):
            return
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            reason = f"no Ray cluster answers there ({error})"
            raise UserError(f"hydra.launcher.address={self.address}: {reason}") from None


def execute_task(
    attempt: dict[str, Any], mark: str, processes: int = 1
) -> tuple[str, float | None, str | None]:
    """Execute an attempt in a Ray task, and return its ending.

    Args:
        attempt: the fields of an Attempt.
        mark: a file to make when it begins.
        processes: the number of processes that train the run together.
    """
    Path(mark).touch()
    status, objective, reason = execute(
        Attempt(**attempt), patience=LOCK_PATIENCE, processes=processes
    )
    return status.value, objective, reason


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
