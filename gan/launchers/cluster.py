"""The shared part of the launchers of clusters, which follow runs by the files they write."""

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan.launchers.attempt import RunFollower
from gan.launchers.base import Ended, Event, Launcher, Started, take_out
from gan.launchers.followers import Place, check_place
from gan.run.attempt import Attempt, Ending
from gan.run.result import FINISHED, Status, objective, read_result


@dataclass
class ClusterJob:
    """An attempt in the hands of a cluster."""

    handle: Any
    """The name by which the cluster knows the job."""
    attempt: Attempt
    follower: RunFollower
    is_running: bool = False
    is_stopping: bool = False


class ClusterLauncher(Launcher):
    """A launcher that hands attempts to a cluster, which decides where and when they run.

    This machine and those of the cluster must see the sweep's directory under the same path.
    """

    def __init__(self, *, processes: int = 1, **settings: Any):
        """See Launcher.

        Args:
            processes: the number of processes that train each run together.
        """
        super().__init__(**settings)
        self.processes = processes
        self._waiting: deque[Attempt] = deque()
        self._events: deque[Event] = deque()
        self._jobs: dict[str, Any] = {}
        """The ClusterJob of each attempt that was handed over, by name."""

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """See Launcher."""
        check_place(self.place, self.processes, device)
        self._threads, self._log = threads, log
        self.connect(folder.resolve())

    @property
    @abstractmethod
    def place(self) -> Place:
        """The share of a machine that a run gets."""

    @abstractmethod
    def connect(self, folder: Path) -> None:
        """Connect to the cluster.

        Args:
            folder: an absolute path, for files of the launcher's own.

        Raises:
            UserError: the cluster does not answer.
        """

    @abstractmethod
    def cancel(self, job: Any) -> None:
        """Ask the cluster to let a job save a checkpoint and end."""

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        self._waiting.append(attempt)

    def stop(self, name: str) -> None:
        """See Launcher."""
        if take_out(self._waiting, name):
            self._events.append(Ended(name, Ending(Status.INTERRUPTED)))
        elif job := self._jobs.get(name):
            job.is_stopping = True
            self.cancel(job)

    def note_progress(self, job: ClusterJob, *, has_begun: bool) -> None:
        """Turn what a job has written since the last look into events."""
        if has_begun and not job.is_running:
            job.is_running = True
            self._events.append(Started(job.attempt.name))
        if job.is_running:
            self._events.extend(job.follower.new_progress())


def finished_ending(run_dir: Path) -> Ending | None:
    """Return the end of a run by its result.json; None if it is not finished."""
    result = read_result(run_dir)
    if result and result["status"] in FINISHED:
        return Ending(Status(result["status"]), objective(result))
    return None
