"""Attempts, time limits and stopping, in a pool where time and processes are pretended."""

from collections import deque
from pathlib import Path

import pytest

from gan.config.compose import compose
from gan.launchers.pool import Ended, Event, Progress, Started, Task
from gan.run.result import read_result
from gan.run.signals import StopRequest
from gan.sweep import schedule as runner
from gan.sweep.composer import plain
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job
from gan.sweep.schedule import Limits, Outcome, Retry, Runner


class ScriptedPool:
    """Each task's attempts end as its script says; one without a next line runs for ever."""

    def __init__(self, **scripts: list[str]) -> None:
        self.scripts = {name: deque(lines) for name, lines in scripts.items()}
        self.tasks: list[str] = []
        self.killed: list[str] = []
        self.stubborn = False
        self._events: deque[Event] = deque()

    def submit(self, task: Task) -> None:
        self.tasks.append(task.name)
        self._events.append(Started(task.name))
        if lines := self.scripts[task.name]:
            status = lines.popleft()
            objective = 1.5 if status == "completed" else None
            self._events.append(Ended(task.name, status, objective, f"was {status}"))

    def stop(self, name: str) -> None:
        if not self.stubborn:
            self._events.append(Ended(name, "interrupted"))

    def prune(self, name: str) -> None:
        self._events.append(Ended(name, "pruned"))

    def kill(self, name: str) -> None:
        self.killed.append(name)
        self._events.append(Ended(name, "lost", reason="killed"))

    def wait(self, timeout: float) -> Event | None:
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        pass


@pytest.fixture
def job() -> Job:
    return Job("a", "0", [], plain(compose("seed=1")))


def run(
    tmp_path: Path, pool: ScriptedPool, config: dict[str, object], limits: Limits
) -> tuple[list[Retry], dict[str, Outcome]]:
    jobs = {name: Job(name, name, [], config) for name in pool.scripts}
    runs = Runner(Sweep(tmp_path, jobs), pool, limits)
    for job in jobs.values():
        runs.submit(job)
    events = list(runs.events(StopRequest()))
    return (
        [event for event in events if isinstance(event, Retry)],
        {event.job.name: event for event in events if isinstance(event, Outcome)},
    )


def test_a_lost_attempt_is_followed_by_another(tmp_path: Path, job: Job) -> None:
    pool = ScriptedPool(a=["lost", "raised", "completed"], b=["completed"])
    retries, outcomes = run(tmp_path, pool, job.config, Limits(retries=2))
    assert [retry.reason for retry in retries] == ["was lost", "was raised"]
    assert outcomes["a"].status == outcomes["b"].status == "completed"
    assert outcomes["a"].objective == 1.5
    assert pool.tasks == ["a", "b", "a", "a"]


def test_retries_end(tmp_path: Path, job: Job) -> None:
    pool = ScriptedPool(a=["lost", "lost", "completed"])
    _, outcomes = run(tmp_path, pool, job.config, Limits(retries=1))
    assert outcomes["a"].status == "failed"
    result = read_result(tmp_path / "a")
    assert result
    assert (result["status"], result["error"]) == ("failed", "was lost")


def test_a_mistake_of_the_users_is_not_tried_again(tmp_path: Path, job: Job) -> None:
    pool = ScriptedPool(a=["refused", "completed"])
    retries, outcomes = run(tmp_path, pool, job.config, Limits(retries=5))
    assert retries == []
    assert outcomes["a"].status == "failed"


def test_too_many_failures_stop_the_others(tmp_path: Path, job: Job) -> None:
    pool = ScriptedPool(a=["refused"], b=["refused"], c=[], d=["completed"])
    _, outcomes = run(tmp_path, pool, job.config, Limits(max_failures=2))
    assert [outcomes[name].status for name in "abc"] == ["failed", "failed", "interrupted"]


def test_an_attempt_may_not_take_too_long(tmp_path: Path, job: Job) -> None:
    pool = ScriptedPool(a=[], b=["completed"])
    _, outcomes = run(tmp_path, pool, job.config, Limits(retries=3, timeout=0.01))
    assert outcomes["a"].status == "failed"
    assert outcomes["a"].reason == "took longer than 0.01 s"
    assert outcomes["b"].status == "completed"
    assert pool.killed == []


def test_one_that_does_not_stop_is_killed(
    tmp_path: Path, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "GRACE", 0.01)
    pool = ScriptedPool(a=[])
    pool.stubborn = True
    _, outcomes = run(tmp_path, pool, job.config, Limits(timeout=0.01))
    assert pool.killed == ["a"]
    assert outcomes["a"].reason == "took longer than 0.01 s"


def test_jobs_come_and_go_while_others_run(tmp_path: Path, job: Job) -> None:
    """As a search needs it: a new job for each that ended, and one stopped in the middle."""
    pool = ScriptedPool(a=[], b=["completed"], c=["completed"])
    jobs = {name: Job(name, name, [], job.config) for name in "abc"}
    runs = Runner(Sweep(tmp_path, jobs), pool, Limits())
    runs.submit(jobs["a"])
    runs.submit(jobs["b"])
    pool._events.append(Progress("a", 10, 100, {"loss": 1.0}))
    outcomes = []
    for event in runs.events(StopRequest()):
        if isinstance(event, Progress):
            runs.stop(event.name, "pruned", "worse than the others")
        if isinstance(event, Outcome):
            outcomes.append((event.job.name, event.status, event.reason))
            if event.job.name == "b":
                runs.submit(jobs["c"])
    assert sorted(outcomes) == [
        ("a", "pruned", "worse than the others"),
        ("b", "completed", None),
        ("c", "completed", None),
    ]
