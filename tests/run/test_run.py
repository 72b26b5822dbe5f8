"""A run that is open: what is due after a step, and going on after it was closed."""

import itertools
import statistics
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from runs import content, short

from gan.functional.run_step import make_step
from gan.run.checkpoint import checkpoint_paths
from gan.run.result import read_records, read_result
from gan.run.run import Run
from gan.train import after_step, run, train_one_step


def train_for(opened: Run, steps: int) -> None:
    """Make so many steps, in a block of its own for each."""
    step = make_step(opened)
    for _ in range(steps):
        with opened.active():
            train_one_step(opened, step)
            after_step(opened)
        # Other runs of the process draw random numbers, too.
        torch.rand(3)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("trainer.flip=true", "trainer.augment=[colour,flip]", "trainer.augment_p=0.4"),
        (
            *("trainer.augment=[translation]", "trainer.ada_target=0.1", "trainer.ada_images=300"),
            "trainer.consistency=[flip,translation]",
        ),
    ],
)
def test_run_that_was_closed_early_goes_on_from_its_checkpoint_bit_for_bit(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    run(short(*overrides), tmp_path / "undisturbed")
    run_dir = tmp_path / "run"
    with Run.open(short(*overrides), run_dir) as opened:
        train_for(opened, 13)
    assert read_result(run_dir) is None
    with Run.open(short(*overrides), run_dir) as opened:
        assert opened.step == 10
        train_for(opened, 30)
        assert opened.finished
    assert content(run_dir) == content(tmp_path / "undisturbed")


def test_everything_is_due_once_after_a_step(tmp_path: Path) -> None:
    every_step = ("logging.every=1", "logging.samples_every=1", "trainer.checkpoint_every=1")
    run_dir = tmp_path / "run"
    with Run.open(short(*every_step, "metrics.every=1"), run_dir) as opened:
        for due in ("record_due", "evaluation_due", "samples_due", "checkpoint_due"):
            assert not getattr(opened, due), due
        train_for(opened, 1)
        made = [*(run_dir / "samples").glob("step-000001*"), *checkpoint_paths(run_dir)]
        assert len(made) == 2
        for path in (*(run_dir / "samples").glob("step-*"), *checkpoint_paths(run_dir)):
            path.unlink()
        with opened.active():
            after_step(opened)
        (record,) = read_records(run_dir)
        assert "sliced_wasserstein" in record
        assert not list((run_dir / "samples").glob("step-*"))
        assert not checkpoint_paths(run_dir)


@pytest.mark.parametrize("tick", [0.0, -7.0])
def test_a_clock_that_stands_still_or_goes_back_harms_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tick: float
) -> None:
    ticks = itertools.count()
    run(short(), tmp_path / "usual")
    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: 1e6 + tick * next(ticks))
    run(short(), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result is not None
    assert (result["status"], result["seconds"], result["images_per_second"]) == (
        "completed",
        0.0,
        None,
    )
    assert content(tmp_path / "run") == content(tmp_path / "usual")


def test_a_warning_of_a_library_ends_no_run(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(short(), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result is not None
    assert result["status"] == "completed"


def test_a_line_of_the_records_costs_the_same_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    record = Run.record

    def counted(self: Run, *, evaluate: bool) -> None:
        calls.append(0)

        def count(*args: object) -> None:
            calls[-1] += 1

        sys.setprofile(count)
        record(self, evaluate=evaluate)
        sys.setprofile(None)

    monkeypatch.setattr(Run, "record", counted)
    many = ("logging.every=1", "trainer.max_steps=300", "metrics=none")
    run(short(*many, "logging.samples_every=1000", "trainer.checkpoint_every=1000"), tmp_path)
    assert len(calls) == 300
    assert statistics.median(calls[-50:]) <= statistics.median(calls[5:55]) + 2
