"""An attempt at a run in this process, and the ways in which launchers follow one from outside."""

import os
from pathlib import Path

import pytest
from sweep_commands import TINY, children

from gan.config.compose import compose
from gan.launchers.attempt import RunFollower, execute, newest_checkpoint, place_config
from gan.run.attempt import Attempt
from gan.run.directory import claimed
from gan.run.provenance import read_provenance
from gan.run.result import Status, read_records
from gan.sweep.composer import plain_config


def test_run_gets_its_threads_and_its_gpu() -> None:
    config = {"device": "cuda:3", "threads": None}
    assert place_config(config, 4, one_gpu=True) == {"device": "cuda", "threads": 4}
    assert place_config(config, 4, one_gpu=False) == {"device": "cuda:3", "threads": 4}
    assert place_config(config | {"threads": 2}, 4, one_gpu=False)["threads"] == 2


def test_follower_returns_each_record_once(tmp_path: Path) -> None:
    config = {"trainer": {"max_steps": None, "max_epochs": 3}}
    follower = RunFollower(Attempt("a", config, tmp_path, []))
    file = tmp_path / "metrics.jsonl"
    assert follower.new_progress() == []
    file.write_text('{"step": 10, "epoch": 0.5}\n{"step": 20, "epoch": 1.0}\n{"step"')
    events = follower.new_progress()
    assert [(event.step, event.total) for event in events] == [(10, 60), (20, 60)]
    # The run goes on from a checkpoint and writes the second line again.
    file.write_text('{"step": 10, "epoch": 0.5}\n')
    assert follower.new_progress() == []
    with file.open("a") as lines:
        lines.write('{"step": 20, "epoch": 1.0}\n{"step": 30, "epoch": 1.5}\n')
    assert [event.record for event in follower.new_progress()] == [{"step": 30, "epoch": 1.5}]
    # It has gone back and on again before the next look.
    file.write_text("".join(f'{{"step": {step}, "epoch": 2.0}}\n' for step in (10, 20, 40)))
    assert [event.step for event in follower.new_progress()] == [40]
    assert follower.new_progress() == []
    with file.open("a") as lines:
        lines.write('{"step": 50, "epoch": 2.5}\n{"st')
    assert [event.step for event in follower.new_progress()] == [50]
    with file.open("a") as lines:
        lines.write('ep": 60, "epoch": 3.0}\n')
    assert [event.step for event in follower.new_progress()] == [60]


def test_newest_checkpoint_is_found_among_files_that_are_being_written(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == ""
    (tmp_path / "checkpoints").mkdir()
    for step in (20, 100):
        (tmp_path / "checkpoints" / f"step-{step:08d}.pt").touch()
    assert newest_checkpoint(tmp_path) == "step-00000100.pt"
    (tmp_path / "checkpoints" / ".step-00000200.pt.x").touch()
    assert newest_checkpoint(tmp_path) == "step-00000100.pt"


def test_attempt_at_a_locked_run_is_busy_however_long_it_waited(tmp_path: Path) -> None:
    attempt = Attempt("a", plain_config(compose(*TINY)), tmp_path, [])
    with claimed(tmp_path):
        assert execute(attempt).status == "busy"
        waited = execute(attempt, patience=0.1)
    assert waited.status == "busy"
    assert waited.reason is not None
    assert "another process is at work" in waited.reason
    assert execute(attempt).status == "completed"


def test_attempt_of_two_processes_is_the_run_of_one(tmp_path: Path) -> None:
    others = children(os.getpid())
    config = plain_config(compose(*TINY, "trainer.max_steps=4", "metrics=none"))
    attempts = [Attempt(name, config, tmp_path / name, []) for name in ("one", "two", "refused")]
    endings = [execute(attempts[0]), execute(attempts[1], processes=2)]
    assert [ending.status for ending in endings] == [Status.COMPLETED] * 2
    one, two = (read_records(attempt.run_dir)[-1] for attempt in attempts[:2])
    assert two == pytest.approx(one, rel=1e-3)
    note = read_provenance(tmp_path / "two")
    assert note
    assert note["starts"][0]["processes"] == 2
    config["trainer"]["batch_size"] = 15
    refused = execute(attempts[2], processes=2)
    assert refused.status == Status.REFUSED
    assert refused.reason
    assert "trainer.batch_size=15: 2 processes cannot share it equally" in refused.reason
    # The other processes have ended.
    assert children(os.getpid()) == others
