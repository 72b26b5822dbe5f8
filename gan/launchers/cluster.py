"""The shared part of the launchers of clusters, which follow runs by the files they write.

A job of the cluster holds one attempt, or the attempts of a cohort. The launcher and the job of a
cohort exchange messages by files: see gan.launchers.messages.
"""

import itertools
import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan.errors import UserError
from gan.launchers.attempt import RunFollower, newest_checkpoint
from gan.launchers.base import Ended, Event, Launcher, Note, Requeued, Started
from gan.launchers.followers import Place, check_place
from gan.launchers.messages import Mailbox, Message, attempt_message
from gan.launchers.queue import Queue
from gan.launchers.vectorized import MAX_RUNS, MAX_RUNS_IN_SEARCH
from gan.run.attempt import Attempt, Ending
from gan.run.result import FINISHED, Status, objective, read_result
from gan.vectorized.compatible import compatibility_key

SECONDS_WITHOUT_ANSWER = 600.0
"""Seconds after which a command that waits for a cluster ends if it has not answered."""
FILE_SYSTEM_PATIENCE = 60.0
"""Seconds after which a network file system shows what a job wrote on another machine."""

log = logging.getLogger(__name__)


@dataclass
class Member:
    """An attempt in a job."""

    attempt: Attempt
    follower: RunFollower
    checkpoint: str
    """The run's newest checkpoint when the attempt was handed to the job."""
    is_running: bool = False
    is_stopping: bool = False
    is_pruning: bool = False
    ending: Ending | None = None
    """The end that its cohort has reported."""
    ended_at: float = 0.0

    @property
    def has_new_checkpoint(self) -> bool:
        """Return whether the job has saved a checkpoint of the run."""
        return newest_checkpoint(self.attempt.run_dir) > self.checkpoint


@dataclass
class ClusterJob:
    """Attempts in the hands of a cluster."""

    members: dict[str, Member]
    """The attempts that the job has and that are not over, by name."""
    mailbox: Mailbox | None = None
    """The connection to the job of a cohort. A job with one run needs none."""
    handle: Any = None
    """The name by which the cluster knows the job."""
    has_begun: bool = False
    is_closed: bool = False
    """The job gets no more attempts."""
    has_said_goodbye: bool = False
    """The job of a cohort has reported everything."""
    killed_for: set[str] = field(default_factory=set)
    """The names of the attempts because of which the job was killed."""
    over_since: float | None = None
    """When the cluster said that the job is over, while its files are not all seen yet."""

    @property
    def is_stopping(self) -> bool:
        """Return whether all of its attempts are to stop."""
        return all(member.is_stopping for member in self.members.values())

    def waits_for_files(self) -> bool:
        """Return whether files of a job that is over may still be on their way."""
        self.over_since = self.over_since or time.monotonic()
        return time.monotonic() - self.over_since < FILE_SYSTEM_PATIENCE


class ClusterLauncher(Launcher):
    """A launcher that hands attempts to a cluster, which decides where and when they run.

    This machine and those of the cluster must see the sweep's directory under the same path.

    Args:
        vectorized: a job trains a cohort, of runs that `gan.vectorized.compatible` lets share one.
            `n_jobs` is then the number of cohorts at the same time.
        max_group: the number of runs in a cohort; None takes what memory allows, up to MAX_RUNS.
        compile, cuda_graphs, measure: see `gan.vectorized.strategy.CohortSettings`.
        processes: the number of processes that train each run together.
        detach: see Launcher.
    """

    takes_gpu = False
    """True if a job sees a GPU of its own."""
    _folder: Path
    """For files of the launcher's own."""

    def __init__(
        self,
        *,
        vectorized: bool = False,
        max_group: int | None = None,
        compile: bool = True,
        cuda_graphs: bool = True,
        measure: bool = True,
        processes: int = 1,
        detach: bool = False,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.detach = detach
        self.processes = processes
        self.vectorized, self.max_group = vectorized, max_group
        self._cohort_settings = {
            "vectorize": True,
            "compile": compile,
            "cuda_graphs": cuda_graphs,
            "measure": measure,
        }
        if vectorized:
            self._queue = Queue(self.n_jobs or 1, max_group or MAX_RUNS, compatibility_key)
        else:
            self._queue = Queue(1)
        self._events: deque[Event] = deque()
        self._jobs: dict[Any, ClusterJob] = {}
        """The jobs in the cluster's hands, by handle."""
        self._numbers = itertools.count(1)

    def check_place(self, device: str) -> None:
        """See Launcher."""
        check_place(self.place, self.processes, device)

    def check(self) -> None:
        """See Launcher."""
        if self.vectorized and self.processes > 1:
            raise UserError(
                f"hydra.launcher.processes={self.processes}: shares one run among processes, and "
                "hydra.launcher.vectorized=true lets runs share a process; leave out one of both"
            )
        if self.vectorized:
            return
        of_cohorts = {"max_group": self.max_group, **self._cohort_settings}
        for name, value in of_cohorts.items():
            if value is not None and value is not True:
                raise UserError(
                    f"hydra.launcher.{name}={str(value).lower()}: has no effect without "
                    "hydra.launcher.vectorized=true; add that, or leave it out"
                )

    def max_running(self, device: str, threads: int) -> int | None:
        """See Launcher."""
        runs = (self.max_group or MAX_RUNS) if self.vectorized else 1
        return self.n_jobs and self.n_jobs * runs

    def max_running_in_search(self, device: str, threads: int) -> int | None:
        """See Launcher."""
        runs = (self.max_group or MAX_RUNS_IN_SEARCH) if self.vectorized else 1
        return self.n_jobs and self.n_jobs * runs

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """See Launcher."""
        self.check_place(device)
        self._threads, self._log = threads, log
        self.connect(folder.resolve())

    @property
    @abstractmethod
    def place(self) -> Place:
        """The share of a machine that a run gets."""

    @abstractmethod
    def connect(self, folder: Path) -> None:
        """Connect to the cluster, and make a folder for `self._folder`.

        Args:
            folder: an absolute path, for files of the launcher's own.

        Raises:
            UserError: the cluster does not answer.
        """

    @abstractmethod
    def hand_over(self, jobs: Sequence[ClusterJob]) -> bool:
        """Submit jobs to the cluster and set their handles; return False if it takes none now.

        Raises:
            UserError: the cluster takes no such jobs.
        """

    @abstractmethod
    def cancel(self, job: ClusterJob) -> None:
        """Ask the cluster to let a job save its checkpoints and end."""

    @abstractmethod
    def prune_run(self, job: ClusterJob, name: str) -> None:
        """Let the run of a job that has only one save a checkpoint and end as pruned."""

    @abstractmethod
    def kill_job(self, job: ClusterJob) -> None:
        """End a job at once."""

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        self._queue.add(attempt)

    def stop(self, name: str) -> None:
        """See Launcher."""
        if self._queue.withdraw(name):
            self._events.append(Ended(name, Ending(Status.INTERRUPTED)))
        elif job := self._holder(name):
            job.members[name].is_stopping = True
            if job.mailbox:
                job.mailbox.requests.append({"stop": name})
            if job.is_stopping:
                job.is_closed = True
                self.cancel(job)

    def prune(self, name: str) -> None:
        """See Launcher."""
        job = self._holder(name)
        if job is None:
            return
        member = job.members[name]
        if job.mailbox is None:
            self.prune_run(job, name)
        elif member.is_running and not member.is_pruning:
            member.is_pruning = True
            job.mailbox.requests.append({"prune": name})

    def kill(self, name: str) -> None:
        """See Launcher."""
        if job := self._holder(name):
            job.members[name].is_stopping = True
            job.killed_for.add(name)
            job.is_closed = True
            self.kill_job(job)

    def _holder(self, name: str) -> ClusterJob | None:
        return next((job for job in self._jobs.values() if name in job.members), None)

    def submit_waiting(self, room: int | None) -> None:
        """Hand attempts that wait to at most `room` new jobs, and others to cohorts with places."""
        jobs: list[ClusterJob] = []
        while (room is None or len(jobs) < room) and (attempts := self._next_attempts()):
            jobs.append(self._make_job(attempts))
        if jobs and self.hand_over(jobs):
            self._jobs.update((job.handle, job) for job in jobs)
        else:
            for job in jobs:
                self._put_back(job)
        if self.vectorized:
            self._fill_cohorts()

    def _next_attempts(self) -> list[Attempt]:
        """Take the attempts of one job out of the queue."""
        attempts: list[Attempt] = []
        while attempt := self._queue.take([attempt.name for attempt in attempts]):
            attempts.append(attempt)
        return attempts

    def _make_job(self, attempts: Sequence[Attempt]) -> ClusterJob:
        members = {attempt.name: _member(attempt) for attempt in attempts}
        if not self.vectorized:
            return ClusterJob(members)
        mailbox = Mailbox(self._folder / f"cohort-{next(self._numbers)}")
        settings: Message = {"settings": self._cohort_settings}
        mailbox.requests.append(settings, *map(self._message, attempts))
        return ClusterJob(members, mailbox)

    def _put_back(self, job: ClusterJob) -> None:
        for member in job.members.values():
            self._queue.put_back(member.attempt)
        if job.mailbox:
            job.mailbox.remove()

    def _message(self, attempt: Attempt) -> Message:
        return attempt_message(attempt, self._threads, one_gpu=self.takes_gpu)

    def _fill_cohorts(self) -> None:
        """Hand attempts that wait to jobs with places, and close jobs that have no more runs."""
        while assignment := self._next_assignment():
            job, attempt = assignment
            assert job.mailbox
            job.members[attempt.name] = _member(attempt)
            job.mailbox.requests.append(self._message(attempt))
        for job in self._jobs.values():
            if not job.members and not job.is_closed:
                assert job.mailbox
                job.is_closed = True
                job.mailbox.requests.append({"close": True})

    def _next_assignment(self) -> tuple[ClusterJob, Attempt] | None:
        """Return the next attempt and its job: of those that may hold it, the smallest cohort."""
        open_jobs = [job for job in self._jobs.values() if not (job.is_closed or job.over_since)]
        for job in sorted(open_jobs, key=lambda job: len(job.members)):
            if attempt := self._queue.take(list(job.members)):
                return job, attempt
        return None

    def note_progress(self, job: ClusterJob, *, has_begun: bool) -> None:
        """Turn what a job with one run has written since the last look into events."""
        for name, member in job.members.items():
            if has_begun and not member.is_running:
                job.has_begun = member.is_running = True
                self._events.append(Started(name))
            if member.is_running:
                self._events.extend(member.follower.new_progress())

    def read_mailbox(self, job: ClusterJob) -> None:
        """Turn what a cohort has reported and written since the last look into events."""
        assert job.mailbox
        for message in job.mailbox.events.new_messages():
            self._take_in(job, message)
        for name, member in list(job.members.items()):
            if member.is_running:
                self._events.extend(member.follower.new_progress())
            if ending := _known_ending(member):
                self.release(job, name, Ended(name, ending))

    def release(self, job: ClusterJob, name: str, event: Event | None) -> None:
        """Take an attempt out of a job, because of an event."""
        member = job.members.pop(name)
        if isinstance(event, Requeued):
            # It has had its turn: those that wait for their first one come before it.
            self._queue.add(member.attempt)
        if event is not None:
            self._events.append(event)

    def end_cohort(self, job: ClusterJob, reason: str, *, needs_checkpoint: bool) -> None:
        """Decide what becomes of the attempts of a cohort whose job was stopped from outside.

        Args:
            reason: says so, such as "its Slurm job 5 was preempted".
            needs_checkpoint: a run goes on if the job has saved a checkpoint of it.
        """
        for name, member in list(job.members.items()):
            if event := self._stopped_event(member):
                self.release(job, name, event)
            elif not member.is_running and job.has_begun:
                self._requeue(job, name, reason)
            elif needs_checkpoint and not member.has_new_checkpoint:
                why = f"{reason} before it saved a checkpoint"
                self.release(job, name, Ended(name, Ending(Status.LOST, reason=why)))
            else:
                self.release(job, name, Requeued(name, reason))

    def end_cancelled_cohort(self, job: ClusterJob, reason: str) -> None:
        """End the attempts of a cohort whose job was ended on purpose, by somebody else."""
        for name, member in list(job.members.items()):
            refused = Ended(name, Ending(Status.REFUSED, reason=reason))
            self.release(job, name, self._stopped_event(member) or refused)

    def end_killed_cohort(self, job: ClusterJob, cause: str) -> None:
        """Decide what becomes of the attempts of a cohort whose job died.

        If it held several, it is not known which one is to blame. Cohorts of half the size find
        that out.

        Args:
            cause: says how it died, such as "its Ray task ended in WorkerCrashedError".
        """
        names, culprits = list(job.members), job.killed_for & set(job.members)
        half = len(names) // 2
        for name, member in list(job.members.items()):
            if event := self._stopped_event(member):
                self.release(job, name, event)
            elif culprits:
                why = f"its cohort's job was ended because of {', '.join(sorted(culprits))}"
                self._requeue(job, name, why)
            elif half == 0:
                self.release(job, name, Ended(name, Ending(Status.LOST, reason=cause)))
            else:
                limit = f"in a cohort of at most {half}" if half > 1 else "alone"
                self._queue.lower_limit(name, half)
                self._requeue(job, name, f"{cause}; from now on {limit}")

    def _take_in(self, job: ClusterJob, message: Message) -> None:
        kind = message.pop("event")
        if kind == "note":
            self._events.append(Note(**message))
        elif kind == "closed":
            job.has_said_goodbye = job.is_closed = True
        elif member := job.members.get(name := message.pop("name")):
            if kind == "started":
                job.has_begun = member.is_running = True
                self._events.append(Started(name))
            elif kind == "ended":
                ending = Ending(**message)
                member.ending = ending._replace(status=Status(ending.status))
                member.ended_at = time.monotonic()
                if member.ending.status is Status.RAISED:
                    # An exception leaves things behind, on a GPU above all. So no other run comes
                    # into this job, and this one does not share a job again.
                    job.is_closed = True
                    assert job.mailbox
                    job.mailbox.requests.append({"close": True})
                    self._queue.lower_limit(name, 1)
            elif kind == "returned":
                self._take_back(job, name, message["reason"], message["max_runs"])

    def _take_back(self, job: ClusterJob, name: str, reason: str, max_runs: int) -> None:
        """Put an attempt that its cohort has given back into the queue."""
        if event := self._stopped_event(job.members[name]):
            self.release(job, name, event)
        elif self._queue.limit(name) == 1:
            # It was alone, and no better place can be found for it.
            self.release(job, name, Ended(name, Ending(Status.LOST, reason=reason)))
        else:
            self._queue.lower_limit(name, max_runs)
            self._requeue(job, name, reason)

    def _requeue(self, job: ClusterJob, name: str, reason: str) -> None:
        """Put an attempt back to where it was in the queue. One that has not begun is silent."""
        member = job.members[name]
        self._queue.put_back(member.attempt)
        del job.members[name]
        if member.is_running:
            self._events.append(Requeued(name, reason))

    def _stopped_event(self, member: Member) -> Ended | None:
        """Return the end of an attempt that has finished, or was to stop; None for another one."""
        name, finished = member.attempt.name, finished_ending(member.attempt.run_dir)
        if finished:
            return Ended(name, finished)
        return Ended(name, Ending(Status.INTERRUPTED)) if member.is_stopping else None


def finished_ending(run_dir: Path) -> Ending | None:
    """Return the end of a run by its result.json; None if it is not finished."""
    result = read_result(run_dir)
    if result and result["status"] in FINISHED:
        return Ending(Status(result["status"]), objective(result))
    return None


def _member(attempt: Attempt) -> Member:
    return Member(attempt, RunFollower(attempt), newest_checkpoint(attempt.run_dir))


def _known_ending(member: Member) -> Ending | None:
    """Return the end of an attempt that its cohort has reported, once its cause is known.

    The end of the job will say why a run was interrupted that was not asked to stop.
    """
    ending = member.ending
    if ending is None or (ending.status is Status.INTERRUPTED and not member.is_stopping):
        return None
    if ending.status in FINISHED:
        is_late = time.monotonic() - member.ended_at > FILE_SYSTEM_PATIENCE
        return finished_ending(member.attempt.run_dir) or (ending if is_late else None)
    return ending
