"""The Ray launcher: tasks on a Ray cluster that runs already, or on one that is started here."""

import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gan.errors import UserError
from gan.launchers.attempt import LOCK_PATIENCE, execute, place_config
from gan.launchers.base import Ended, Event, plain
from gan.launchers.cluster import ClusterJob, ClusterLauncher, finished_ending
from gan.launchers.cohort_job import execute_cohort
from gan.launchers.controller import IS_REPEATED, LOG_FILE, command
from gan.launchers.followers import Place
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status
from gan.run.signals import PRUNE

NAMESPACE = "gan-sweeps"
"""The namespace of Ray's in which controllers have their names."""
SECONDS_BETWEEN_LOOKS = 0.5
"""Seconds between two looks at what the runs have written."""
PRUNE_SUFFIX = ".prune"
"""The ending of the name of a file that asks a run to end as pruned."""

log = logging.getLogger(__name__)


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
        self.takes_gpu = num_gpus > 0
        self._looked = 0.0

    def check(self) -> None:
        """See Launcher."""
        if self.detach and self.address == "local":
            raise UserError(
                "hydra.launcher.detach=true: address=local starts a Ray that ends with this "
                "command; take a cluster, as in hydra.launcher.address=auto"
            )
        super().check()
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

    def start_controller(self, folder: Path, words: Sequence[str]) -> str:
        """See Launcher."""
        ray = self._connected_ray()
        try:
            name = f"gan-sweep-{_digest(folder)}-{secrets.token_hex(3)}"
            actor = ray.remote(num_cpus=0, max_restarts=-1)(RayController)
            options = {"name": name, "namespace": NAMESPACE, "lifetime": "detached"}
            handle = actor.options(**options).remote(str(folder), list(words), name)
            ray.get(handle.begun.remote())
        except ray.exceptions.RayError as error:
            raise UserError(
                f"hydra/launcher=ray: no controller begins ({_first_line(error)}); all machines of "
                f"the cluster must see {folder}"
            ) from None
        finally:
            ray.shutdown()
        return f"Ray actor {name}"

    def stop_controller(self, folder: Path, name: str) -> None:
        """See Launcher."""
        ray = self._connected_ray()
        try:
            actor = ray.get_actor(name.rpartition(" ")[2], namespace=NAMESPACE)
            ray.get(actor.stop.remote())
        except (ValueError, ray.exceptions.RayError):
            # It has just ended.
            return
        finally:
            ray.shutdown()

    def has_controller(self, folder: Path, name: str) -> bool:
        """See Launcher."""
        ray = self._connected_ray()
        try:
            ray.get_actor(name.rpartition(" ")[2], namespace=NAMESPACE)
        except ValueError:
            return False
        finally:
            ray.shutdown()
        return True

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
        )(execute_cohort if self.vectorized else execute_task)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def cancel(self, job: ClusterJob) -> None:
        """See ClusterLauncher."""
        # The cancellation arrives as SIGINT in the task's process.
        self._ray.cancel(job.handle)

    def prune_run(self, job: ClusterJob, name: str) -> None:
        """See ClusterLauncher."""
        # Ray can send no signal but SIGINT, so the task looks for this file and sends it itself.
        if job.members[name].is_running:
            self._mark(f"{name}{PRUNE_SUFFIX}").touch()

    def kill_job(self, job: ClusterJob) -> None:
        """See ClusterLauncher."""
        self._ray.cancel(job.handle, force=True)

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        if self._events:
            return self._events.popleft()
        self.submit_waiting(None if self.n_jobs is None else self.n_jobs - len(self._jobs))
        running = [handle for handle, job in self._jobs.items() if job.over_since is None]
        if running:
            self._ray.wait(running, timeout=timeout)
        else:
            time.sleep(timeout)
        handles = list(self._jobs)
        over = handles and self._ray.wait(handles, num_returns=len(handles), timeout=0)[0]
        if over or time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            self._look()
        for handle in over:
            self._note_end(self._jobs[handle])
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See Launcher."""
        self._queue.clear()
        for job in self._jobs.values():
            self._ray.cancel(job.handle, force=True)
        self._jobs.clear()
        self._ray.shutdown()
        # A task that is just being ended may still write something.
        for _ in range(10):
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                break
            time.sleep(0.3)

    def hand_over(self, jobs: Sequence[ClusterJob]) -> bool:
        """See ClusterLauncher."""
        for job in jobs:
            if job.mailbox:
                job.handle = self._task.remote(str(job.mailbox.path))
                continue
            (attempt,) = [member.attempt for member in job.members.values()]
            mark = self._mark(attempt.name)
            mark.unlink(missing_ok=True)
            self._mark(f"{attempt.name}{PRUNE_SUFFIX}").unlink(missing_ok=True)
            config = place_config(attempt.config, self._threads, one_gpu=self.takes_gpu)
            fields = asdict(attempt) | {"config": config, "run_dir": attempt.run_dir.resolve()}
            job.handle = self._task.remote(fields, str(mark), self.processes)
        return True

    def _look(self) -> None:
        """Note what the runs have written."""
        begun = {path.name for path in self._folder.iterdir()}
        for job in self._jobs.values():
            if job.mailbox:
                self.read_mailbox(job)
            else:
                self.note_progress(job, has_begun=not begun.isdisjoint(job.members))

    def _note_end(self, job: ClusterJob) -> None:
        """Decide what becomes of the attempts of a task that is over."""
        returned, reason = self._outcome(job)
        if job.mailbox is None:
            ((name, member),) = job.members.items()
            ending = self._ending(member.attempt.run_dir, member.is_stopping, returned, reason)
            self.release(job, name, Ended(name, ending))
        elif reason or job.killed_for:
            self.end_killed_cohort(job, reason or "its Ray task was killed")
            job.mailbox.remove()
        elif job.members and not job.has_said_goodbye and job.waits_for_files():
            return
        else:
            self.end_cohort(job, "its Ray task was stopped", needs_checkpoint=True)
            job.mailbox.remove()
        del self._jobs[job.handle]

    def _outcome(self, job: ClusterJob) -> tuple[Any, str | None]:
        """Return what a task that is over has returned, and the reason why it died, if it did."""
        try:
            return self._ray.get(job.handle), None
        except self._ray.exceptions.RayError as error:
            return None, f"its Ray task ended in {type(error).__name__}: {_first_line(error)}"

    def _ending(
        self,
        run_dir: Path,
        is_stopping: bool,
        returned: tuple[str, float | None, str | None] | None,
        reason: str | None,
    ) -> Ending:
        """Return the end of an attempt that had a task of its own."""
        if finished := finished_ending(run_dir):
            return finished
        if is_stopping:
            return Ending(Status.INTERRUPTED)
        status, _, why = returned or (None, None, None)
        if status in (Status.RAISED, Status.REFUSED, Status.BUSY):
            return Ending(Status(status), reason=why)
        return Ending(Status.LOST, reason=reason or why)

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
        except Exception as error:
            # Ray raises exceptions of no particular class, too.
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
        mark: a file to make when it begins. One with PRUNE_SUFFIX beside it asks it to end.
        processes: the number of processes that train the run together.
    """
    Path(mark).touch()
    with pruned_by(Path(f"{mark}{PRUNE_SUFFIX}")):
        status, objective, reason = execute(
            Attempt(**attempt), patience=LOCK_PATIENCE, processes=processes
        )
    return status.value, objective, reason


@contextmanager
def pruned_by(file: Path) -> Iterator[None]:
    """Send this process the signal PRUNE once a file exists, in the block."""
    if PRUNE is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            if file.exists():
                os.kill(os.getpid(), PRUNE)

    # Training has a handler of its own. Before and after it, there is nothing to prune.
    signal.signal(PRUNE, signal.SIG_IGN)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class RayController:
    """An actor that drives a detached sweep. It lives until the sweep is over.

    Args:
        folder: the sweep's directory.
        words: options of `gan resume`.
        name: the name of the actor.
    """

    def __init__(self, folder: str, words: list[str], name: str):
        self._command, self._name = command(Path(folder), words), name
        self._log = Path(folder) / LOG_FILE
        self._log_file = self._log.open("ab")
        import ray

        is_repeated = ray.get_runtime_context().was_current_actor_reconstructed
        self._process = subprocess.Popen(
            self._command,
            stdout=self._log_file,
            stderr=self._log_file,
            env=os.environ | {IS_REPEATED: str(int(is_repeated))},
        )
        threading.Thread(target=self._end_with_process, daemon=True).start()

    def begun(self) -> bool:
        """Return once the actor is there."""
        return True

    def stop(self) -> None:
        """Let all runs save a checkpoint and end."""
        self._process.terminate()

    def _end_with_process(self) -> None:
        import ray

        self._process.wait()
        ray.kill(ray.get_actor(self._name, namespace=NAMESPACE), no_restart=True)


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]
