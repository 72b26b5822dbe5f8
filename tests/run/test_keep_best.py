"""The checkpoint of a run's best step, beside the newest ones."""

from pathlib import Path

import pytest
import torch
from runs import fail_at, short

import gan
from gan.commands.compare import BEST, Options, compare
from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths, load_checkpoint
from gan.run.directory import best_paths, read_config
from gan.run.notices import next_steps
from gan.run.result import read_records, read_result
from gan.run.trained import load_generator
from gan.train import run

KEPT = ("metrics.every=4", "trainer.keep_best=sliced_wasserstein", "data=digits")
LR = "optimizer.lr=0.02"
"""A learning rate at which the metric does not improve until the end."""


def test_compare_names_the_checkpoint_of_the_best_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(short(*KEPT, LR), tmp_path / "run", overrides=[*KEPT, LR])
    compare([tmp_path, BEST], Options())
    (kept,) = best_paths(tmp_path / "run")
    step = best_step(tmp_path / "run")
    line = f"its checkpoint of the best sliced_wasserstein, of step {step}: {kept}; checkpoint=best"
    assert line in capsys.readouterr().err
    assert load_checkpoint(kept, "kept")["step"] == step


def best_step(run_dir: Path) -> int:
    """Return the step of the least distance by the records of a run."""
    measured = [r for r in read_records(run_dir) if "sliced_wasserstein" in r]
    return int(min(measured, key=lambda record: record["sliced_wasserstein"])["step"])


def test_checkpoint_of_the_best_step_is_kept_and_no_other(tmp_path: Path) -> None:
    run(short(*KEPT, LR), tmp_path / "run")
    (kept,) = best_paths(tmp_path / "run")
    best = best_step(tmp_path / "run")
    assert best < 40
    assert kept.name == f"best-{best:08d}.pt"
    # A run that ends there has the same weights.
    run(short(*KEPT, LR, f"trainer.max_steps={best}"), tmp_path / "ended")
    ended = load_checkpoint(checkpoint_paths(tmp_path / "ended")[0], "ended")
    for name, weight in load_checkpoint(kept, "kept")["generator"].items():
        assert torch.equal(weight, ended["generator"][name]), name


def test_resumed_run_keeps_the_same_best_checkpoint(tmp_path: Path) -> None:
    run(short(*KEPT, LR), tmp_path / "undisturbed")
    (expected,) = best_paths(tmp_path / "undisturbed")
    weights = load_checkpoint(expected, "undisturbed")["generator"]
    for step in (7, 22, 39):
        fail_at(step, short(*KEPT, LR), tmp_path / str(step))
        run(short(*KEPT, LR), tmp_path / str(step))
        (kept,) = best_paths(tmp_path / str(step))
        assert kept.name == expected.name
        for name, weight in load_checkpoint(kept, str(step))["generator"].items():
            assert torch.equal(weight, weights[name]), (step, name)


def test_best_checkpoint_of_a_step_that_is_made_again_is_not_taken(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    fail_at(19, short(*KEPT), run_dir)
    steps = [int(path.stem.split("-")[1]) for path in best_paths(run_dir)]
    # The run goes on from step 10. A best step after it stays beside the one before it.
    assert max(steps) > 10
    assert min(steps) <= 10
    assert gan.load_generator(run_dir, checkpoint="best").step == max(steps)


def test_samples_of_the_best_checkpoint_are_of_its_step(tmp_path: Path) -> None:
    run(short(*KEPT, LR), tmp_path / "run")
    best = load_generator(tmp_path / "run", checkpoint="best")
    assert (best.step, load_generator(tmp_path / "run").step) == (best_step(tmp_path / "run"), 40)


def test_run_without_a_best_checkpoint_and_wrong_names_are_refused(tmp_path: Path) -> None:
    run(short("data=digits"), tmp_path / "run")
    assert not best_paths(tmp_path / "run")
    with pytest.raises(UserError, match=r"^checkpoint=best: .* kept none"):
        load_generator(tmp_path / "run", checkpoint="best")
    with pytest.raises(UserError, match=r"^checkpoint=bst: .*did you mean 'best'"):
        load_generator(tmp_path / "run", checkpoint="bst")
    with pytest.raises(
        UserError, match=r"^trainer\.keep_best=lenet_fid: must be in metrics\.names"
    ):
        run(short("trainer.keep_best=lenet_fid"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_run_that_goes_on_without_the_option_leaves_the_kept_checkpoint(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    fail_at(19, short(*KEPT), run_dir)
    before = {path: path.read_bytes() for path in best_paths(run_dir)}
    # The run goes on from step 10, and a best step after it is made again.
    kept = {path: old for path, old in before.items() if int(path.stem.split("-")[1]) <= 10}
    assert 0 < len(kept) < len(before)
    run(short(*[word for word in KEPT if "keep_best" not in word]), run_dir)
    assert {path: path.read_bytes() for path in best_paths(run_dir)} == kept


def test_run_that_goes_on_by_another_metric_keeps_what_it_has_until_a_better_step(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    words = (*KEPT, LR, "metrics.names=[sliced_wasserstein,kid]")
    run(short(*words), run_dir)
    kept = best_paths(run_dir)
    assert kept
    other = [*words, "trainer.keep_best=kid", "trainer.max_steps=44"]
    run(short(*other), run_dir, extend=True)
    best = min((r for r in read_records(run_dir) if "kid" in r), key=lambda r: r["kid"])["step"]
    if best == 44:
        assert [path.name for path in best_paths(run_dir)] == [f"best-{best:08d}.pt"]
    else:
        assert best_paths(run_dir) == kept
    if best < 40:
        assert f"the best step so far, {best}, was not kept" in (run_dir / "train.log").read_text()


def test_end_of_a_run_names_the_command_for_its_best_step(tmp_path: Path) -> None:
    for words, is_named in ((KEPT, True), (("data=digits",), False)):
        assert ("checkpoint=best" in next_steps(tmp_path, short(*words))) == is_named


def test_keeping_the_best_changes_no_result(tmp_path: Path) -> None:
    run(short("data=digits"), tmp_path / "run")
    result = read_result(tmp_path / "run")
    run(short("data=digits", "trainer.keep_best=sliced_wasserstein"), tmp_path / "run")
    assert read_result(tmp_path / "run") == result
    assert read_config(tmp_path / "run").trainer.keep_best is None
