"""Signals that a run gets more than once, alone and where a cluster sends them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import Signals
from types import FrameType

import pytest
from cohorts import make_attempt
from runs import interrupt_at, short
from sweep_commands import TESTS, wait_until

from gan.errors import Interrupted
from gan.run.checkpoint import checkpoint_paths
from gan.run.result import read_result
from gan.train import run

if not hasattr(signal, "SIGUSR1"):
    pytest.skip("this system has no signal to prune a run", allow_module_level=True)

INT, TERM, PRUNE, HANGUP = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP
JOB = """
import json, sys
from pathlib import Path
from gan.launchers.slurm import execute_job
execute_job(**json.loads(Path(sys.argv[1]).read_text()))
"""
"""The program of a Slurm job, which gets the attempt from a file."""


@pytest.fixture(autouse=True)
def _unhandled_signals_are_errors() -> Iterator[None]:
    """Let a signal that a run does not handle raise an error here, and not end the tests."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{Signals(number).name} was not handled")

    before = {number: signal.signal(number, fail) for number in (INT, TERM, PRUNE, HANGUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([TERM, TERM], "interrupted"),
        ([INT, INT], "interrupted"),
        ([TERM, INT, TERM, PRUNE], "interrupted"),
        ([HANGUP, TERM, HANGUP], "interrupted"),
        ([PRUNE, PRUNE], "pruned"),
        ([PRUNE, TERM, INT], "pruned"),
    ],
)
def test_run_that_is_told_to_stop_several_times_saves_a_checkpoint(
    signals: list[Signals], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send() -> None:
        for number in signals:
            os.kill(os.getpid(), number)

    interrupt_at(monkeypatch, 13, send)
    if status == "pruned":
        run(short(), tmp_path)
    else:
        with pytest.raises(Interrupted, match=f"stopped by {signals[0].name} after step 13"):
            run(short(), tmp_path)
    assert (read_result(tmp_path) or {})["status"] == status
    assert checkpoint_paths(tmp_path)[0].stem == "step-00000013"


def test_run_that_ignores_hangups_goes_on_without_its_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal.signal(HANGUP, signal.SIG_IGN)
    interrupt_at(monkeypatch, 13, lambda: os.kill(os.getpid(), HANGUP))
    run(short(), tmp_path)
    assert (read_result(tmp_path) or {})["status"] == "completed"
    assert signal.getsignal(HANGUP) is signal.SIG_IGN


def test_third_ctrl_c_ends_a_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press() -> None:
        for _ in range(3):
            os.kill(os.getpid(), INT)

    interrupt_at(monkeypatch, 13, press)
    with pytest.raises(KeyboardInterrupt) as ended:
        run(short(), tmp_path)
    assert not isinstance(ended.value, Interrupted)
    assert checkpoint_paths(tmp_path)[0].stem == "step-00000010"


def test_cluster_job_that_is_pruned_again_and_again_ends_as_pruned(tmp_path: Path) -> None:
    long = ("trainer.max_steps=1000000", "trainer.checkpoint_every=1000000", "logging.every=5")
    rare = ("metrics.every=1000000", "logging.samples_every=1000000")
    attempt = make_attempt(tmp_path, "run", *long, *rare)
    report, job = tmp_path / "report.json", tmp_path / "job.json"
    fields = {"config": attempt.config, "run_dir": str(attempt.run_dir), "report": str(report)}
    fields |= {"overrides": attempt.overrides, "choices": attempt.choices}
    job.write_text(json.dumps(fields))
    process = subprocess.Popen([sys.executable, "-c", JOB, str(job)], cwd=TESTS)
    records = attempt.run_dir / "metrics.jsonl"
    try:
        wait_until(lambda: records.exists() and records.stat().st_size)
        while process.poll() is None:
            process.send_signal(PRUNE)
            time.sleep(0.01)
        assert process.returncode == 0
    finally:
        process.kill()
    assert json.loads(report.read_text())["status"] == "pruned"
