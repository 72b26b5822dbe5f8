"""Seeing runs through in a pool: attempts, time limits, failures and being told to stop."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gan.errors import Interrupted
from gan.launchers.pool import Ended, Note, Pool, Progress, Requeued, Started, Task
from gan.run.result import FINISHED
from gan.run.signals import StopRequest
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job

GRACE = 30.0
"""Seconds that a run told to stop has for its checkpoint before it is killed."""
TICK = 0.2
"""Seconds between looks at time limits and signals."""


@dataclass(frozen=True)
class Limits:
    """
    Args:
        retries: attempts beyond the first, where a process dies or the run raises.
        timeout: seconds that one attempt may take.
        max_failures: failed runs after which no other is started and all are stopped.
    """

    retries: int = 0
    timeout: float | None = None
    max_failures: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended for good: completed, diverged, failed, interrupted, or what `stop` said."""

    job: Job
    status: str
    objective: float | None
    reason: str | None
    log: Path


@dataclass(frozen=True)
class Retry:
    """An attempt failed and the next one waits for its place."""

    job: Job
    reason: str


Told = Started | Progress | Requeued | Note | Retry | Outcome


@dataclass
class _Attempt:
    job: Job
    number: int = 1
    began: float | None = None
    stopping: float | None = None
    """Since when it is being stopped."""
    status: str = "interrupted"
    """What to call it when it has stopped."""
    reason: str | None = None


class Runner:
    """Jobs go in by `submit`, even while others run, and come out of `events`.

    A sweeper that chooses its points one after the other, or stops some in the middle, uses
    it in the same way as one that knows all of them from the start.
    """

    def __init__(self, sweep: Sweep, pool: Pool, limits: Limits):
        self._sweep = sweep
        self._pool = pool
        self._limits = limits
        self._attempts: dict[str, _Attempt] = {}
        self.failures = 0

    def submit(self, job: Job) -> None:
        self._sweep.forget_failure(job.name)
        self._begin(_Attempt(job))

    def stop(self, name: str, status: str = "interrupted", reason: str | None = None) -> None:
        """Have a job save a checkpoint and end with that status, unless it ends before."""
        attempt = self._attempts.get(name)
        if attempt is None or attempt.stopping is not None:
            return
        attempt.stopping, attempt.status, attempt.reason = time.monotonic(), status, reason
        self._pool.stop(name)

    def prune(self, name: str) -> None:
        """Have a job save a checkpoint and end as pruned, unless it ends before."""
        if name in self._attempts and self._attempts[name].stopping is None:
            self._pool.prune(name)

    def events(self, stop: StopRequest) -> Iterator[Told]:
        """What happens until nothing is left to do.

        Raises:
            Interrupted: the stop came. What ran has been stopped and its outcome told.
        """
        stopped = False
        while self._attempts:
            if stop.came is not None and not stopped:
                stopped = True
                self._stop_all()
            yield from self._next()
            self._watch_the_clock()
        if stop.came is not None:
            raise Interrupted(stop.came.name, 128 + stop.came)

    def _next(self) -> Iterator[Told]:
        event = self._pool.wait(TICK)
        if isinstance(event, Note):
            yield event
            return
        attempt = self._attempts.get(event.name) if event else None
        if event is None or attempt is None:
            return
        if isinstance(event, Ended):
            yield from self._ended(attempt, event)
            return
        if isinstance(event, Started):
            attempt.began = time.monotonic()
        if isinstance(event, Requeued):
            attempt.began = None
        yield event

    def _begin(self, attempt: _Attempt) -> None:
        job = attempt.job
        self._attempts[job.name] = attempt
        run_dir = self._sweep.run_dir(job.name)
        self._pool.submit(Task(job.name, job.config, run_dir, job.overrides))

    def _ended(self, attempt: _Attempt, ended: Ended) -> Iterator[Retry | Outcome]:
        job, status, reason = attempt.job, ended.status, ended.reason
        del self._attempts[job.name]
        if status in FINISHED:
            yield self._outcome(job, status, ended.objective, None)
            return
        if attempt.stopping is not None:
            status, reason = attempt.status, attempt.reason
        elif status != "refused" and attempt.number <= self._limits.retries:
            yield Retry(job, reason or status)
            self._begin(_Attempt(job, attempt.number + 1))
            return
        else:
            status = "failed"
        if status == "failed":
            self.failures += 1
            self._sweep.record_failure(job.name, reason)
        yield self._outcome(job, status, None, reason)
        if status == "failed" and self.failures == self._limits.max_failures:
            self._stop_all()

    def _stop_all(self) -> None:
        for name in list(self._attempts):
            self.stop(name)

    def _watch_the_clock(self) -> None:
        now, timeout = time.monotonic(), self._limits.timeout
        for name, attempt in list(self._attempts.items()):
            if attempt.stopping is not None:
                if now - attempt.stopping > GRACE:
                    self._pool.kill(name)
            elif timeout and attempt.began is not None and now - attempt.began > timeout:
                self.stop(name, "failed", f"took longer than {timeout:g} s")

    def _outcome(
        self, job: Job, status: str, objective: float | None, reason: str | None
    ) -> Outcome:
        return Outcome(job, status, objective, reason, self._sweep.log(job.name))
