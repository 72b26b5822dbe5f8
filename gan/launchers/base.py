"""Launchers: they execute attempts somewhere, and tell what becomes of each."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher as HydraLauncher
from omegaconf import OmegaConf

from gan.errors import UserError
from gan.run.attempt import Attempt, Ending


@dataclass(frozen=True)
class Started:
    """An attempt has begun."""

    name: str


@dataclass(frozen=True)
class Progress:
    """An attempt is at a step of `total`, with the values that were logged there, if any."""

    name: str
    step: int
    total: int
    record: dict[str, Any] | None


@dataclass(frozen=True)
class Ended:
    """An attempt is over."""

    name: str
    ending: Ending


@dataclass(frozen=True)
class Requeued:
    """An attempt lost its place through no fault of its own. It goes on when there is room."""

    name: str
    reason: str


@dataclass(frozen=True)
class Note:
    """A message for the user, to be shown once."""

    text: str


Event = Started | Progress | Requeued | Ended | Note


class Launcher(ABC):
    """Executes attempts in the order in which they were submitted, as places get free.

    It knows nothing of sweeps. The settings are the keys of `hydra.launcher`.

    Args:
        n_jobs: the number of attempts at the same time; None leaves it to the launcher.
        timeout: seconds that one attempt may take.
        retries: attempts beyond the first, where a process dies or the program raises an error.
        max_failures: the number of failed runs after which a sweep stops.
    """

    def __init__(
        self,
        *,
        n_jobs: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        max_failures: int | None = None,
    ):
        self.n_jobs = n_jobs
        self.timeout = timeout
        self.retries = retries
        self.max_failures = max_failures

    detach = False
    """A job of the cluster drives the sweep, and the command line returns at once."""

    def start_controller(self, folder: Path, words: Sequence[str]) -> str:
        """Let a job of the cluster drive the sweep in a directory, and return the job's name.

        Args:
            folder: an absolute path.
            words: options of `gan resume`.

        Raises:
            UserError: there is no cluster, or it takes no such job.
        """
        raise UserError(
            "detach=true: only the launchers slurm and ray have a cluster that drives a sweep; "
            "leave it out"
        )

    def stop_controller(self, folder: Path, name: str) -> None:
        """Let the job of that name save a checkpoint of each run, and end.

        Raises:
            UserError: the cluster does not answer.
        """
        raise NotImplementedError

    def has_controller(self, folder: Path, name: str) -> bool:
        """Return whether the job of that name is still there, or waits to begin.

        Raises:
            UserError: the cluster does not answer.
        """
        return False

    def check(self) -> None:  # noqa: B027 (most launchers need nothing)
        """Check that everything that the launcher needs is installed.

        Raises:
            UserError: names what is missing.
        """

    def check_place(self, device: str) -> None:  # noqa: B027 (most launchers have what a run needs)
        """Check that a run gets the cores and the GPUs that it needs.

        Args:
            device: the device that the runs are configured for.

        Raises:
            UserError: names the key to change.
        """

    @abstractmethod
    def threads_per_run(self, device: str, runs: int) -> int:
        """Return the threads of each run if `runs` runs share this place."""

    def max_running(self, device: str, threads: int) -> int | None:
        """Return the largest number of runs, of `threads` threads each, that run at the same time.

        Returns:
            None where something else decides, such as a cluster.
        """
        return self.n_jobs

    def max_running_in_search(self, device: str, threads: int) -> int | None:
        """Return how many runs a search keeps going; None where something else decides."""
        return self.max_running(device, threads)

    @abstractmethod
    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """Get ready to execute attempts.

        Args:
            folder: for files of the launcher's own, which must have names with a leading dot.
            log: the file for what processes say outside of their runs.
            device: the device that the runs are configured for.
            threads: the threads of each run.
            runs: the number of runs that are known by now.

        Raises:
            UserError: there is no such place.
        """

    @abstractmethod
    def submit(self, attempt: Attempt) -> None:
        """Put an attempt into the queue."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Let an attempt save a checkpoint and end as interrupted, or take it out of the queue."""

    @abstractmethod
    def prune(self, name: str) -> None:
        """Let a running attempt save a checkpoint and end as pruned.

        A request for an attempt that has not begun is lost, and a second one changes nothing.
        """

    @abstractmethod
    def kill(self, name: str) -> None:
        """End a running attempt at once."""

    @abstractmethod
    def wait(self, timeout: float) -> Event | None:
        """Return the next event; None if none comes within so many seconds."""

    @abstractmethod
    def close(self) -> None:
        """End everything at once."""


def find_launcher(settings: Mapping[str, Any]) -> Launcher | None:
    """Return the launcher that stored settings describe; None if it is of another kind.

    Only launchers that Hydra finds among the installed plugins are made.
    """
    keywords = dict(settings)
    target = keywords.pop("_target_")
    for plugin in Plugins.instance().discover(HydraLauncher):
        is_wanted = f"{plugin.__module__}.{plugin.__name__}" == target
        if is_wanted and issubclass(plugin, Launcher):
            launcher: Launcher = plugin(**keywords)
            return launcher
    return None


def plain(value: Any) -> Any:
    """Return a setting as plain lists and dictionaries, however Hydra has handed it over."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def take_out(waiting: deque[Attempt], name: str) -> bool:
    """Take an attempt out of a queue; return whether it was there."""
    for attempt in waiting:
        if attempt.name == name:
            waiting.remove(attempt)
            return True
    return False
