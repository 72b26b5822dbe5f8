"""Running the jobs of a sweep to their end: attempts, time limits, failures, and being stopped."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from gan.errors import Interrupted
from gan.launchers.base import Ended, Launcher, Note, Progress, Requeued, Started
from gan.run.attempt import Attempt
from gan.run.directory import in_use
from gan.run.result import FINISHED, Status
from gan.run.signals import StopRequest, deferred_stop
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job
from gan.system.invocation import command_line

STOP_PATIENCE = 30.0
"""Seconds that a run has for its checkpoint before it is killed."""
BUSY_PATIENCE = 10.0
"""Seconds that a sweep waits for runs that another process trains, once it has no others left."""
BUSY_REASON = "another process is at work in its directory"
TICK = 0.2
"""Seconds between two looks at time limits and signals."""


@dataclass(frozen=True)
class JobEnded:
    """A job has ended for good: completed, diverged, pruned, failed, interrupted or busy."""

    job: Job
    status: Status
    objective: float | None
    reason: str | None


@dataclass(frozen=True)
class Retry:
    """An attempt failed, and the next one waits for its place."""

    job: Job
    reason: str


ScheduleEvent = Started | Progress | Requeued | Note | Retry | JobEnded


@dataclass
class _ActiveJob:
    """A job with an attempt that is waiting or running."""

    job: Job
    attempt_number: int = 1
    began: float | None = None
    stopping_since: float | None = None
    is_killed: bool = False
    status: Status = Status.INTERRUPTED
    """The status that the job gets when it has stopped."""
    reason: str | None = None


class Scheduler:
    """Runs jobs in a launcher until each has ended for good.

    Jobs may be submitted while others run. So a search that chooses its points one after the other
    uses it in the same way as a grid, whose jobs are all known at the start.
    """

    def __init__(self, sweep: Sweep, launcher: Launcher):
        self._sweep = sweep
        self._launcher = launcher
        self._active: dict[str, _ActiveJob] = {}
        self._busy: dict[str, _ActiveJob] = {}
        """Jobs whose runs another process trains, by name."""
        self.is_stopping = False
        """All jobs were asked to stop, and no further ones are to be submitted."""
        self._looked_at = 0.0
        """The time of the last look at time limits."""
        self.failures = 0

    def submit(self, job: Job) -> None:
        """Run a job as soon as there is a place for it, and no other process trains its run."""
        self._begin_attempt(_ActiveJob(job))

    def stop(
        self, name: str, status: Status = Status.INTERRUPTED, reason: str | None = None
    ) -> None:
        """Let a job save a checkpoint and end with that status, unless it ends before."""
        active = self._active.get(name)
        if active is None or active.stopping_since is not None:
            return
        active.stopping_since, active.status, active.reason = time.monotonic(), status, reason
        self._launcher.stop(name)

    def prune(self, name: str) -> None:
        """Let a job save a checkpoint and end as pruned, unless it ends before."""
        if name in self._active and self._active[name].stopping_since is None:
            self._launcher.prune(name)

    def events(self, stop: StopRequest) -> Iterator[ScheduleEvent]:
        """Yield what happens until no job is left.

        Raises:
            Interrupted: the stop signal came. All jobs have been stopped, and their ends yielded.
        """
        waiting_since = time.monotonic()
        while self._active or self._busy:
            if stop.signal is not None and not self.is_stopping:
                self._stop_all()
            yield from self._next_events()
            self._check_time_limits()
            if self._active:
                waiting_since = time.monotonic()
            yield from self._look_at_busy(time.monotonic() - waiting_since)
        if stop.signal is not None:
            raise Interrupted(stop.signal.name, 128 + stop.signal)

    def _next_events(self) -> Iterator[ScheduleEvent]:
        event = self._launcher.wait(TICK)
        if isinstance(event, Note):
            yield event
            return
        active = self._active.get(event.name) if event else None
        if event is None or active is None:
            return
        if isinstance(event, Ended):
            yield from self._end_attempt(active, event)
            return
        if isinstance(event, Started):
            active.began = time.monotonic()
        if isinstance(event, Requeued):
            active.began = None
        yield event

    def _look_at_busy(self, waited: float) -> Iterator[JobEnded]:
        """Begin runs that their processes have left, and wait no longer for others in the end."""
        for name, active in list(self._busy.items()):
            is_busy = in_use(self._sweep.run_dir(name))
            if is_busy and waited < BUSY_PATIENCE and not self.is_stopping:
                continue
            del self._busy[name]
            if is_busy or self.is_stopping:
                yield self._ended(active.job, Status.BUSY, None, BUSY_REASON)
            else:
                self._begin_attempt(active)

    def _begin_attempt(self, active: _ActiveJob) -> None:
        job = active.job
        run_dir = self._sweep.run_dir(job.name)
        if in_use(run_dir):
            self._busy[job.name] = active
            return
        self._active[job.name] = active
        self._sweep.forget_failure(job.name)
        words = [*self._sweep.sources, *job.overrides]
        self._launcher.submit(Attempt(job.name, job.config, run_dir, words, job.choices))

    def _end_attempt(self, active: _ActiveJob, event: Ended) -> Iterator[Retry | JobEnded]:
        job, (status, objective, reason) = active.job, event.ending
        del self._active[job.name]
        if status in FINISHED:
            yield self._ended(job, status, objective, None)
            return
        may_retry = status is not Status.REFUSED
        if status is Status.BUSY and active.stopping_since is None:
            if active.attempt_number > self._launcher.retries:
                yield self._ended(job, status, None, BUSY_REASON)
            else:
                self._busy[job.name] = _ActiveJob(job, active.attempt_number + 1)
            return
        if active.stopping_since is not None:
            status, reason = active.status, active.reason
        elif may_retry and active.attempt_number <= self._launcher.retries:
            yield Retry(job, reason or status)
            self._begin_attempt(_ActiveJob(job, active.attempt_number + 1))
            return
        else:
            status = Status.FAILED
        if status is Status.FAILED:
            self.failures += 1
            self._sweep.record_failure(job.name, reason)
        if status is Status.FAILED and self.failures == self._launcher.max_failures:
            self._stop_all()
        yield self._ended(job, status, None, reason)

    def _stop_all(self) -> None:
        self.is_stopping = True
        for name in list(self._active):
            self.stop(name)

    def _check_time_limits(self) -> None:
        now, timeout = time.monotonic(), self._launcher.timeout
        # To look at all jobs after each event would take ever longer, the more there are.
        if now - self._looked_at < TICK:
            return
        self._looked_at = now
        for name, active in list(self._active.items()):
            if active.stopping_since is not None:
                if now - active.stopping_since > STOP_PATIENCE and not active.is_killed:
                    active.is_killed = True
                    self._launcher.kill(name)
            elif timeout and active.began is not None and now - active.began > timeout:
                self.stop(name, Status.FAILED, f"took longer than {timeout:g} s")

    def _ended(
        self, job: Job, status: Status, objective: float | None, reason: str | None
    ) -> JobEnded:
        return JobEnded(job, status, objective, reason)


Tell = Callable[[Sweep, ScheduleEvent], None]
"""A function that tells Hydra's callbacks of an event."""


def tell_nobody(sweep: Sweep, event: ScheduleEvent) -> None:
    """Do nothing, where there are no callbacks."""


class Display(Protocol):
    """Shows the events of a sweep to people."""

    def live(self) -> AbstractContextManager[None]:
        """Show the state of the sweep within the block."""

    def show(self, event: ScheduleEvent) -> None:
        """Show an event."""


def run_jobs(
    sweep: Sweep,
    launcher: Launcher,
    names: list[str],
    display: Display,
    *,
    on_event: Callable[[ScheduleEvent, Scheduler, StopRequest], None],
    remaining: Callable[[], str],
    tell: Tell = tell_nobody,
) -> None:
    """Run jobs of a sweep, and those that follow from them, in a launcher.

    Args:
        names: the jobs to begin with.
        on_event: is called after each event. It may submit further jobs, or prune some.
        remaining: says how much is left to do, such as "3 of 8 runs".
        tell: tells Hydra's callbacks of each event.

    Raises:
        UserError: the launcher cannot start.
        Interrupted: SIGINT or SIGTERM arrived, and the sweep can be resumed.
    """
    assert sweep.threads is not None
    device = sweep.jobs[names[0]].config["device"]
    launcher.start(
        sweep.path, sweep.workers_log, device=device, threads=sweep.threads, runs=len(names)
    )
    scheduler = Scheduler(sweep, launcher)
    try:
        with deferred_stop() as stop, display.live():
            for name in names:
                scheduler.submit(sweep.jobs[name])
            for event in scheduler.events(stop):
                display.show(event)
                tell(sweep, event)
                on_event(event, scheduler, stop)
    except KeyboardInterrupt as error:
        deferred = isinstance(error, Interrupted)
        how = str(error) if deferred else "SIGINT, the third one"
        raise Interrupted(
            f"{sweep.path}: stopped by {how} with {remaining()} left; "
            f"continue with: {command_line('resume', sweep.path)}",
            exit_code=error.exit_code if isinstance(error, Interrupted) else 130,
        ) from None
    finally:
        launcher.close()
