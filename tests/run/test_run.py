"""A run that is open: what is due after a step, and going on after it was closed."""

from pathlib import Path

import torch
from runs import content, short

from gan.run.checkpoint import checkpoint_paths
from gan.run.result import read_records, read_result
from gan.run.run import Run
from gan.train import after_step, make_step, run, train_one_step


def train_for(opened: Run, steps: int) -> None:
    """Make so many steps, in a block of its own for each."""
    step = make_step(opened)
    for _ in range(steps):
        with opened.active():
            train_one_step(opened, step)
            after_step(opened)
        # Other runs of the process draw random numbers, too.
        torch.rand(3)


def test_run_that_was_closed_early_goes_on_from_its_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    run(short(), tmp_path / "undisturbed")
    run_dir = tmp_path / "run"
    with Run.open(short(), run_dir) as opened:
        train_for(opened, 13)
    assert read_result(run_dir) is None
    with Run.open(short(), run_dir) as opened:
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
        for path in (*(run_dir / "samples").glob("step-*"), *checkpoint_paths(run_dir)):
            path.unlink()
        with opened.active():
            after_step(opened)
        assert len(read_records(run_dir)) == 1
        assert not list((run_dir / "samples").glob("step-*"))
        assert not checkpoint_paths(run_dir)
