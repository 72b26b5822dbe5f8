"""The attempts that workers of the local launcher hold, and what becomes of them in a failure.

The workers train nothing. They do what tests tell them.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_commands import TESTS

from gan.errors import UserError
from gan.launchers.base import Ended, Event, Note, Requeued, Started
from gan.launchers.local import LocalLauncher
from gan.launchers.queue import Queue
from gan.launchers.slots import Slot
from gan.run.attempt import Attempt
from gan.run.result import Status
from gan.run.signals import StopRequest
from gan.sweep.directory import Sweep
from gan.sweep.plan import Job
from gan.sweep.report import LiveDisplay
from gan.sweep.schedule import JobEnded, Scheduler
from gan.system.files import write_text


class FakeLauncher(LocalLauncher):
    """A local launcher whose workers hold many attempts and carry out orders."""

    worker_module = "fake_worker"

    def make_queue(self, workers: int) -> Queue:
        """Return a queue whose compatibility key is the first letter of an attempt's name."""
        return Queue(workers, 64, lambda config: str(config["key"]))

    def worker_settings(self) -> dict[str, Any]:
        """Return settings that the workers show in a note."""
        return {"vectorize": True, "measure": False}


def make_config(name: str, *, idle: bool = False, deaf: bool = False) -> dict[str, Any]:
    """Return the configuration of an attempt that a fake worker understands."""
    return {"device": "cpu", "threads": 1, "key": name[0], "idle": idle, "deaf": deaf}


class Workers:
    """Fake workers, their launcher, and the events that it has returned."""

    def __init__(self, path: Path, count: int):
        self.launcher = FakeLauncher()
        self.launcher.use([Slot(1)] * count, path / "workers.log")
        self.events: list[Event] = []
        self._path = path

    def submit(self, names: str, *, idle: bool = False, deaf: bool = False) -> None:
        """Submit attempts: idle ones do not begin, deaf ones ignore stop signals."""
        for name in names.split():
            (self._path / name).mkdir(exist_ok=True)
            config = make_config(name, idle=idle, deaf=deaf)
            self.launcher.submit(Attempt(name, config, self._path / name, []))

    def order(self, names: str, order: str | int) -> None:
        """Let attempts end with a status, be returned with a limit, or kill their worker."""
        for name in names.split():
            write_text(self._path / name / "order", json.dumps(order))

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Collect events until a condition holds."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.events
            if event := self.launcher.wait(0.1):
                self.events.append(event)

    def wait_for_start(self, names: str) -> None:
        """Wait until each of these attempts starts, counted from now."""
        before = len(self.events)

        def started() -> set[str]:
            return {e.name for e in self.events[before:] if isinstance(e, Started)}

        self.wait_until(lambda: started() >= set(names.split()))

    def held(self) -> list[str]:
        """Return the names of the attempts that each worker holds."""
        workers = sorted(self.launcher._workers.items())
        return [" ".join(sorted(worker.attempts)) for _, worker in workers]

    def ended(self) -> dict[str, str]:
        """Return the statuses of the attempts that have ended."""
        return {e.name: e.ending.status for e in self.events if isinstance(e, Ended)}

    def requeued(self) -> dict[str, str]:
        """Return why attempts were put back into the queue."""
        return {e.name: e.reason for e in self.events if isinstance(e, Requeued)}


MakeWorkers = Callable[[int], Workers]


@pytest.fixture
def make_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeWorkers]:
    """Return a function that makes fake workers, which are killed when the test ends."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    made: list[Workers] = []

    def make(count: int) -> Workers:
        made.append(Workers(tmp_path, count))
        return made[-1]

    yield make
    for workers in made:
        workers.launcher.close()


def test_workers_share_the_attempts_and_take_another_when_one_ends(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(2)
    workers.submit("a1 a2 a3 a4")
    workers.wait_for_start("a1 a2 a3 a4")
    assert workers.held() == ["a1 a3", "a2 a4"]
    assert Note(json.dumps({"vectorize": True, "measure": False})) in workers.events
    workers.submit("b1 a5")
    workers.order("a2", "completed")
    workers.wait_for_start("a5")
    assert workers.held() == ["a1 a3", "a4 a5"]
    workers.order("a1 a3", "diverged")
    workers.wait_for_start("b1")
    assert workers.held() == ["b1", "a4 a5"]
    assert workers.ended() == {"a2": "completed", "a1": "diverged", "a3": "diverged"}
    assert workers.requeued() == {}


def test_attempt_that_kills_its_worker_is_found_by_halving_the_cohort(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(1)
    workers.submit("a1 a2 a3 a4 a5")
    workers.wait_for_start("a1 a2 a3 a4 a5")
    workers.order("a2", "die")
    workers.wait_for_start("a1 a2")
    assert workers.held() == ["a1 a2"]
    reasons = set(workers.requeued().values())
    assert len(workers.requeued()) == 5
    assert reasons == {
        "its cohort's process was killed by SIGKILL, as the system does when memory runs out; "
        "from now on in a cohort of at most 2"
    }
    workers.order("a2", "die")
    workers.wait_for_start("a1")
    assert workers.requeued()["a1"].endswith("; from now on alone")
    assert workers.held() == ["a1"]
    workers.order("a1", "completed")
    workers.wait_for_start("a2")
    assert workers.held() == ["a2"]
    workers.order("a2", "die")
    workers.wait_for_start("a3 a4")
    assert workers.ended() == {"a1": "completed", "a2": "lost"}
    workers.order("a3 a4 a5", "completed")
    workers.wait_until(lambda: len(workers.ended()) == 5)
    assert list(workers.ended().values()).count("completed") == 4


def test_stopped_pruned_and_killed_attempts_leave_the_others_alone(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(1)
    workers.submit("a1 a2 a3 a4")
    workers.submit("a5", deaf=True)
    workers.submit("b1")
    workers.wait_for_start("a1 a2 a3 a4 a5")
    workers.launcher.stop("a1")
    workers.launcher.prune("a2")
    workers.launcher.stop("b1")
    workers.wait_until(lambda: len(workers.ended()) == 3)
    assert workers.ended() == {"a1": "interrupted", "a2": "pruned", "b1": "interrupted"}
    workers.launcher.stop("a5")
    workers.launcher.kill("a5")
    workers.wait_for_start("a3 a4")
    assert workers.ended()["a5"] == "lost"
    assert workers.requeued() == dict.fromkeys(
        ("a3", "a4"), "its cohort's process was ended because of a5"
    )
    # They are not to blame, so others may join them.
    workers.submit("a6 a7")
    workers.wait_for_start("a6 a7")
    assert workers.held() == ["a3 a4 a6 a7"]


def test_attempt_that_is_stopped_before_its_first_step_ends_at_once(
    make_workers: MakeWorkers,
) -> None:
    """A run cannot answer while it reads its data or builds its networks."""
    workers = make_workers(1)
    workers.submit("a1", deaf=True)
    workers.wait_for_start("a1")
    workers.launcher.stop("a1")
    workers.wait_until(workers.ended)
    assert workers.ended() == {"a1": "lost"}
    assert workers.held() == []


def test_attempt_that_is_being_stopped_does_not_begin_again(make_workers: MakeWorkers) -> None:
    workers = make_workers(1)
    workers.submit("a1 a2 a3", deaf=True)
    workers.wait_for_start("a1 a2 a3")
    for name in ("a1", "a2"):
        workers.launcher.stop(name)
    workers.order("a1", 1)
    workers.wait_until(lambda: "a1" in workers.ended())
    workers.order("a3", "die")
    workers.wait_for_start("a3")
    assert workers.ended() == {"a1": "interrupted", "a2": "lost"}
    assert set(workers.requeued()) == {"a3"}


def test_attempt_that_a_worker_returns_goes_on_in_a_smaller_cohort(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(1)
    workers.submit("a1")
    workers.submit("a2 a3", idle=True)
    workers.wait_for_start("a1")
    workers.order("a2 a3", 1)
    workers.wait_until(lambda: workers.held() == ["a1"])
    # They had not begun, so the user need not know.
    assert workers.requeued() == {}
    workers.order("a1", 1)
    workers.wait_for_start("a1")
    assert workers.requeued() == {"a1": "it is too much"}
    assert workers.held() == ["a1"]
    # It is alone, and there is no better place for it.
    workers.order("a1", 1)
    workers.wait_until(lambda: workers.held() == ["a2"])
    assert workers.ended() == {"a1": "lost"}


def test_worker_in_which_a_run_raised_an_error_gets_no_other_run(
    make_workers: MakeWorkers,
) -> None:
    workers = make_workers(1)
    workers.submit("a1 a2")
    workers.wait_for_start("a1 a2")
    pid = workers.launcher._workers[0].process.pid
    workers.order("a1", "raised")
    workers.wait_until(lambda: "a1" in workers.ended())
    workers.submit("a1 a3")
    workers.order("a2", "completed")
    workers.wait_for_start("a1")
    assert workers.launcher._workers[0].process.pid != pid
    # The run that raised the error goes on alone.
    assert workers.held() == ["a1"]
    workers.order("a1", "completed")
    workers.wait_for_start("a3")


def test_attempts_that_end_with_their_cohort_do_not_count_as_retries(
    make_workers: MakeWorkers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = make_workers(1)
    assert workers.launcher.retries == 0
    jobs = {name: Job(name, name, [], make_config(name)) for name in ("a1", "a2")}
    scheduler = Scheduler(Sweep(tmp_path, jobs), workers.launcher)
    display = LiveDisplay(2, [], "sliced_wasserstein")
    for job in jobs.values():
        (tmp_path / job.name).mkdir()
        scheduler.submit(job)
    ends: dict[str, Status] = {}
    has_died = False
    for event in scheduler.events(StopRequest()):
        display.show(event)
        if isinstance(event, JobEnded):
            ends[event.job.name] = event.status
        if isinstance(event, Started) and event.name == "a2" and not has_died:
            has_died = True
            workers.order("a2", "die")
        elif isinstance(event, Started) and has_died:
            workers.order(event.name, "completed")
    assert ends == {"a1": "completed", "a2": "completed"}
    out = capsys.readouterr().out
    assert out.count("from now on alone; goes on when there is room") == 2
    assert out.count('"measure": false') == 1


def test_device_that_is_not_there_is_refused_before_a_run_starts(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    with pytest.raises(UserError, match=r"^device=cuda:99: not on this machine, which has "):
        launcher.start(tmp_path, tmp_path / "log", device="cuda:99", threads=1, runs=2)
