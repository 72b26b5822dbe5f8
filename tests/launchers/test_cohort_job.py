"""The program of a cluster job that trains a cohort, in this process."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cohorts import assert_alike, make_attempt, train_alone
from sweep_commands import wait_until

from gan.launchers import cohort_job, ray
from gan.launchers.cohort_job import FileInbox, execute_cohort
from gan.launchers.messages import Mailbox, MessageFile, attempt_message
from gan.run.attempt import Attempt
from gan.run.checkpoint import checkpoint_paths
from gan.run.signals import PRUNE, deferred_stop

LONG = (
    "trainer.max_steps=1000000",
    "trainer.checkpoint_every=1000000",
    "logging.samples_every=1000000",
    "metrics.every=1000000",
)
STACKED = {"settings": {"vectorize": True, "measure": False}}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs look for requests all the time, and wait for no more of them."""
    monkeypatch.setattr(cohort_job, "SECONDS_BETWEEN_READS", 0.0)
    monkeypatch.setattr(cohort_job, "SECONDS_TO_LINGER", 0.0)


def message(attempt: Attempt) -> dict[str, Any]:
    """Return the message that hands an attempt to a job."""
    return attempt_message(attempt, 1, one_gpu=False)


def in_background(function: Callable[[], None]) -> threading.Thread:
    """Start a thread that calls a function."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_messages_are_read_once_and_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    file = MessageFile(tmp_path / "messages")
    assert file.new_messages() == []
    MessageFile(file.path).append({"stop": "ä"}, {"stop": "b"})
    with file.path.open("a", encoding="utf-8") as half:
        half.write('{"stop"')
    assert file.new_messages() == [{"stop": "ä"}, {"stop": "b"}]
    assert file.new_messages() == []
    with file.path.open("a", encoding="utf-8") as rest:
        rest.write(': "c"}\nno message\n')
    assert file.new_messages() == [{"stop": "c"}]


def test_signal_also_stops_attempts_that_are_still_to_come(tmp_path: Path) -> None:
    requests = MessageFile(tmp_path / "requests")
    inbox = FileInbox(MessageFile(requests.path))
    requests.append({"attempt": vars(Attempt("a", {}, tmp_path, [])) | {"run_dir": "a"}})
    assert [attempt.name for attempt in inbox.new_attempts()] == ["a"]
    requests.append({"attempt": vars(Attempt("b", {}, tmp_path, [])) | {"run_dir": "b"}})
    inbox.stop_all()
    assert inbox.stop_signals() == {"a": signal.SIGTERM}
    assert [attempt.name for attempt in inbox.new_attempts()] == ["b"]
    assert inbox.stop_signals()["b"] == signal.SIGTERM


def test_attempts_join_a_job_and_are_stopped_alone_or_together(tmp_path: Path) -> None:
    first, second = (make_attempt(tmp_path, name, *LONG) for name in ("first", "second"))
    late = make_attempt(tmp_path, "late", "seed=3")
    mailbox = Mailbox(tmp_path / "cohort")
    mailbox.requests.append(STACKED, message(first), message(second))
    events: list[dict[str, Any]] = []
    reader = MessageFile(mailbox.events.path)

    def ended(name: str) -> bool:
        events.extend(reader.new_messages())
        return any(event["event"] == "ended" and event["name"] == name for event in events)

    def disturb() -> None:
        wait_until(lambda: all((a.run_dir / "metrics.jsonl").exists() for a in (first, second)))
        mailbox.requests.append(message(late), {"stop": "first"})
        wait_until(lambda: ended("first") and ended("late"))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = in_background(disturb)
    handler = signal.getsignal(signal.SIGTERM)
    execute_cohort(str(mailbox.path))
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is handler
    events.extend(reader.new_messages())
    statuses = {event["name"]: event["status"] for event in events if event["event"] == "ended"}
    assert statuses == {"first": "interrupted", "late": "completed", "second": "interrupted"}
    assert events[-1] == {"event": "closed"}
    assert not any(event["event"] == "progress" for event in events)
    assert all(len(checkpoint_paths(a.run_dir)) == 1 for a in (first, second))
    assert_alike(late.run_dir, train_alone(late))


def test_file_lets_a_run_of_a_ray_task_end_as_pruned(tmp_path: Path) -> None:
    file = tmp_path / "run.prune"
    handler = signal.getsignal(signal.SIGUSR1)
    try:
        with ray.pruned_by(file):
            # A signal that comes before training begins changes nothing.
            os.kill(os.getpid(), signal.SIGUSR1)
            with deferred_stop() as stop:
                file.touch()
                wait_until(lambda: stop.signal)
        assert stop.signal == PRUNE
    finally:
        signal.signal(signal.SIGUSR1, handler)
