"""Attempts, time limits and stops, with a launcher that only pretends to run processes."""

import signal
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gan.config.compose import compose
from gan.errors import Interrupted
from gan.launchers.base import Ended, Event, Launcher, Progress, Requeued, Started
from gan.run.attempt import Attempt, Ending
from gan.run.directory import claimed
from gan.run.result import Status, read_result, write_result
from gan.run.signals import StopRequest
from gan.sweep import schedule
from gan.sweep.composer import plain_config
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job
from gan.sweep.schedule import JobEnded, Retry, Scheduler

BUSY, COMPLETED, LOST = Status.BUSY, Status.COMPLETED, Status.LOST
RAISED, REFUSED = Status.RAISED, Status.REFUSED
CONFIG = plain_config(compose("seed=1"))


class ScriptedLauncher(Launcher):
    """A launcher whose attempts end as scripts say.

    Args:
        scripts: by name, the statuses that the attempts at a job end with. An attempt runs for ever
            when its script is at its end.
        ignores_stop: attempts do not end when they are asked to.
    """

    def __init__(
        self, scripts: dict[str, list[Status]], *, ignores_stop: bool = False, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.scripts = {name: deque(statuses) for name, statuses in scripts.items()}
        self.ignores_stop = ignores_stop
        self.submitted: list[str] = []
        self.killed: list[str] = []
        self.events: deque[Event] = deque()

    def threads_per_run(self, device: str, runs: int) -> int:
        """See Launcher."""
        return 1

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """See Launcher."""

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        name = attempt.name
        self.submitted.append(name)
        self.events.append(Started(name))
        if statuses := self.scripts[name]:
            status = statuses.popleft()
            objective = 1.5 if status is COMPLETED else None
            self.events.append(Ended(name, Ending(status, objective, f"was {status}")))

    def stop(self, name: str) -> None:
        """See Launcher."""
        if not self.ignores_stop:
            self.events.append(Ended(name, Ending(Status.INTERRUPTED)))

    def prune(self, name: str) -> None:
        """See Launcher."""
        self.events.append(Ended(name, Ending(Status.PRUNED)))

    def kill(self, name: str) -> None:
        """See Launcher."""
        self.killed.append(name)
        self.events.append(Ended(name, Ending(LOST, reason="killed")))

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        return self.events.popleft() if self.events else None

    def close(self) -> None:
        """See Launcher."""


def make_sweep(path: Path, names: str) -> Sweep:
    """Return a sweep with a job for each letter."""
    return Sweep(path, {name: Job(name, name, [], CONFIG) for name in names})


def run_all(path: Path, launcher: ScriptedLauncher) -> tuple[list[Retry], dict[str, JobEnded]]:
    """Run a job for each script; return the retries, and how each job ended."""
    sweep = make_sweep(path, "".join(launcher.scripts))
    scheduler = Scheduler(sweep, launcher)
    for job in sweep.jobs.values():
        scheduler.submit(job)
    events = list(scheduler.events(StopRequest()))
    return (
        [event for event in events if isinstance(event, Retry)],
        {event.job.name: event for event in events if isinstance(event, JobEnded)},
    )


def test_lost_and_raised_attempts_are_tried_again(tmp_path: Path) -> None:
    scripts = {"a": [LOST, RAISED, COMPLETED], "b": [COMPLETED]}
    launcher = ScriptedLauncher(scripts, retries=2)
    retries, ends = run_all(tmp_path, launcher)
    assert [retry.reason for retry in retries] == ["was lost", "was raised"]
    assert ends["a"].status == ends["b"].status == "completed"
    assert ends["a"].objective == 1.5
    assert launcher.submitted == ["a", "b", "a", "a"]


def test_job_fails_when_its_retries_are_used_up(tmp_path: Path) -> None:
    launcher = ScriptedLauncher({"a": [LOST, LOST, COMPLETED]}, retries=1)
    _, ends = run_all(tmp_path, launcher)
    assert ends["a"].status == "failed"
    result = read_result(tmp_path / "a")
    assert result
    assert (result["status"], result["error"]) == ("failed", "was lost")


def test_mistake_of_the_user_is_not_tried_again(tmp_path: Path) -> None:
    retries, ends = run_all(tmp_path, ScriptedLauncher({"a": [REFUSED, COMPLETED]}, retries=5))
    assert retries == []
    assert ends["a"].status == "failed"


def test_too_many_failures_stop_the_other_jobs(tmp_path: Path) -> None:
    scripts = {"a": [REFUSED], "b": [REFUSED], "c": [], "d": [COMPLETED]}
    _, ends = run_all(tmp_path, ScriptedLauncher(scripts, max_failures=2))
    assert [ends[name].status for name in "abc"] == ["failed", "failed", "interrupted"]


def test_attempt_that_takes_too_long_is_stopped_as_failed(tmp_path: Path) -> None:
    launcher = ScriptedLauncher({"a": [], "b": [COMPLETED]}, retries=3, timeout=0.01)
    _, ends = run_all(tmp_path, launcher)
    assert ends["a"].status == "failed"
    assert ends["a"].reason == "took longer than 0.01 s"
    assert ends["b"].status == "completed"
    assert launcher.killed == []


def test_attempt_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "STOP_PATIENCE", 0.01)
    launcher = ScriptedLauncher({"a": []}, ignores_stop=True, timeout=0.01)
    _, ends = run_all(tmp_path, launcher)
    assert launcher.killed == ["a"]
    assert ends["a"].reason == "took longer than 0.01 s"


def test_jobs_are_submitted_and_stopped_while_others_run(tmp_path: Path) -> None:
    """A search submits a new job for each that ended, and stops some in the middle."""
    launcher = ScriptedLauncher({"a": [], "b": [COMPLETED], "c": [COMPLETED]})
    sweep = make_sweep(tmp_path, "abc")
    scheduler = Scheduler(sweep, launcher)
    scheduler.submit(sweep.jobs["a"])
    scheduler.submit(sweep.jobs["b"])
    launcher.events.append(Progress("a", 10, 100, {"loss": 1.0}))
    ends = []
    for event in scheduler.events(StopRequest()):
        if isinstance(event, Progress):
            scheduler.stop(event.name, Status.PRUNED, "worse than the others")
        if isinstance(event, JobEnded):
            ends.append((event.job.name, event.status, event.reason))
            if event.job.name == "b":
                scheduler.submit(sweep.jobs["c"])
    assert sorted(ends) == [
        ("a", "pruned", "worse than the others"),
        ("b", "completed", None),
        ("c", "completed", None),
    ]


def test_run_that_another_process_trains_is_busy_and_keeps_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "BUSY_PATIENCE", 0.01)
    launcher = ScriptedLauncher({"a": [COMPLETED], "b": [COMPLETED], "c": [BUSY, BUSY]}, retries=1)
    write_result(make_dir(tmp_path / "a"), {"status": "failed", "error": "an old one"})
    with claimed(tmp_path / "a"):
        retries, ends = run_all(tmp_path, launcher)
    assert retries == []
    assert {name: end.status for name, end in ends.items()} == {
        "a": BUSY,
        "b": COMPLETED,
        "c": BUSY,
    }
    assert ends["a"].reason == "another process is at work in its directory"
    # Nobody knows by now how the other process gets on.
    assert (read_result(tmp_path / "a") or {})["error"] == "an old one"
    assert not (tmp_path / "c").exists()


def test_busy_run_begins_when_the_other_process_leaves_it(tmp_path: Path) -> None:
    launcher = ScriptedLauncher({"a": [COMPLETED], "b": [COMPLETED]})
    sweep = make_sweep(tmp_path, "ab")
    scheduler = Scheduler(sweep, launcher)
    with ExitStack() as other:
        other.enter_context(claimed(tmp_path / "a"))
        for job in sweep.jobs.values():
            scheduler.submit(job)
        ends = {}
        for event in scheduler.events(StopRequest()):
            if isinstance(event, JobEnded):
                ends[event.job.name] = event.status
                other.close()
    assert ends == {"b": COMPLETED, "a": COMPLETED}


def test_sweep_that_is_stopped_does_not_wait_for_busy_runs(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, "a")
    scheduler, stop = Scheduler(sweep, ScriptedLauncher({"a": [COMPLETED]})), StopRequest()
    with claimed(tmp_path / "a"):
        scheduler.submit(sweep.jobs["a"])
        stop.signal = signal.SIGINT
        with pytest.raises(Interrupted):
            list(scheduler.events(stop))


def make_dir(path: Path) -> Path:
    """Make a directory and return it."""
    path.mkdir()
    return path


def test_attempt_that_is_queued_again_has_its_whole_time_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=lambda: now[0]))
    launcher = ScriptedLauncher({"a": []}, timeout=10.0)
    sweep = make_sweep(tmp_path, "a")
    scheduler = Scheduler(sweep, launcher)
    scheduler.submit(sweep.jobs["a"])
    launcher.events.append(Requeued("a", "preempted"))
    seen = []
    for event in scheduler.events(StopRequest()):
        seen.append(type(event))
        if isinstance(event, Requeued):
            now[0] += 60.0
            launcher.events.append(Started("a"))
        if seen.count(Started) == 2 and isinstance(event, Started):
            launcher.events.append(Ended("a", Ending(COMPLETED, 1.5)))
        if isinstance(event, JobEnded):
            assert event.status is COMPLETED
    assert seen == [Started, Requeued, Started, JobEnded]
    assert not launcher.killed


def test_job_that_is_asked_to_stop_twice_keeps_the_first_status(tmp_path: Path) -> None:
    launcher = ScriptedLauncher({"a": []}, ignores_stop=True)
    sweep = make_sweep(tmp_path, "a")
    scheduler, ends = Scheduler(sweep, launcher), []
    scheduler.submit(sweep.jobs["a"])
    for event in scheduler.events(StopRequest()):
        if isinstance(event, Started):
            scheduler.stop("a", Status.PRUNED, "worse")
            scheduler.stop("a", Status.FAILED, "another")
            launcher.events.append(Ended("a", Ending(Status.INTERRUPTED)))
        if isinstance(event, JobEnded):
            ends.append((event.status, event.reason))
    assert ends == [(Status.PRUNED, "worse")]
