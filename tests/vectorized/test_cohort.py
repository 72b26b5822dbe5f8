"""Cohorts: the directory of every run is as if it were alone, whatever happens to the others."""

import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import (
    ALWAYS_STACKED,
    AS_CONFIGURED,
    Parent,
    assert_alike,
    log_messages,
    make_attempt,
    train_alone,
    train_cohort,
)
from omegaconf import OmegaConf
from runs import content

from gan.functional.compiled import ProgramStep
from gan.run.checkpoint import load_newest_checkpoint
from gan.run.result import Status, read_records, read_result
from gan.run.run import Run
from gan.run.signals import PRUNE
from gan.train import run
from gan.vectorized import cohort as cohort_module
from gan.vectorized import confirm, stacked
from gan.vectorized.autotune import Autotuner
from gan.vectorized.cohort import Cohort, memory_limit
from gan.vectorized.strategy import SEQUENTIAL, STACKED, CohortSettings


def without_fractions(messages: list[str]) -> list[str]:
    return [re.sub(r"-?\d+\.\d+", "#", message) for message in messages]


def test_runs_of_a_cohort_leave_the_same_directories_as_alone(tmp_path: Path) -> None:
    attempts = [
        make_attempt(tmp_path, "plain", "trainer.ema_half_life=100"),
        make_attempt(tmp_path, "fast", "trainer.ema_half_life=50", "optimizer.lr=1e-3", "seed=1"),
        # Checkpoints, evaluations and the last step may come at other steps.
        make_attempt(
            tmp_path,
            "short",
            "trainer.ema_half_life=100",
            "trainer.max_steps=25",
            "trainer.checkpoint_every=9",
            "metrics.every=8",
            "penalty.gamma=1",
        ),
        make_attempt(tmp_path, "narrow", "trainer.ema_half_life=100", "model.hidden_dim=8"),
    ]
    before = torch.get_rng_state()
    parent = Parent(*attempts)
    train_cohort(parent)
    assert torch.equal(torch.get_rng_state(), before)
    assert parent.begun == ["plain", "fast", "short", "narrow"]
    assert set(parent.statuses.values()) == {"completed"}
    assert parent.returns == {}
    for attempt in attempts:
        alone = train_alone(attempt)
        assert_alike(alone, attempt.run_dir)
        # A run writes its own lines to its log, and no others.
        messages = without_fractions(log_messages(attempt.run_dir))
        assert messages == without_fractions(log_messages(alone))


def test_runs_of_a_cohort_adapt_their_augmentation_each_by_itself(tmp_path: Path) -> None:
    shared = ("trainer.augment=[translation,colour]", "trainer.ada_images=1000", "logging.every=4")
    attempts = [
        make_attempt(tmp_path, "high", *shared, "trainer.ada_target=0.9"),
        make_attempt(tmp_path, "low", *shared, "trainer.ada_target=-0.9", "trainer.flip=true"),
        make_attempt(
            tmp_path, "limited", *shared, "trainer.ada_target=-0.9", "trainer.augment_p=0.1"
        ),
    ]
    parent = Parent(*attempts)
    train_cohort(parent)
    assert parent.returns == {}
    highest = {}
    for attempt in attempts:
        assert_alike(train_alone(attempt), attempt.run_dir)
        highest[attempt.name] = max(record["augment_p"] for record in read_records(attempt.run_dir))
    assert highest["low"] > 0.3
    assert highest["limited"] == pytest.approx(0.1)
    assert highest["high"] < highest["low"]


def test_run_that_diverges_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    rates = {"r0": "1e-3", "r1": "1e30", "r2": "1e-4"}
    attempts = [
        make_attempt(tmp_path, name, f"seed={seed}", f"optimizer.lr={rate}")
        for seed, (name, rate) in enumerate(rates.items())
    ]
    parent = Parent(*attempts)
    train_cohort(parent)
    assert parent.statuses == {"r0": "completed", "r1": "diverged", "r2": "completed"}
    for attempt in (attempts[0], attempts[2]):
        assert_alike(train_alone(attempt), attempt.run_dir)


def test_runs_stop_one_by_one_and_other_runs_take_their_places(tmp_path: Path) -> None:
    """One run is stopped, one is pruned, and a run that began elsewhere takes a place."""
    begun = make_attempt(tmp_path, "begun", "seed=7", "penalty.interval=3")
    # It stops at a step at which no step of the other runs is of the same kind.
    first = Parent(begun)
    first.actions = {("begun", 10): lambda: first.signals.update(begun=signal.SIGTERM)}
    train_cohort(first)
    assert first.statuses == {"begun": "interrupted"}
    attempts = [
        make_attempt(tmp_path, name, f"seed={seed}", "penalty.interval=3")
        for seed, name in enumerate(("stays", "stopped", "pruned"))
    ]
    parent = Parent(*attempts)

    def replace() -> None:
        assert PRUNE is not None
        parent.signals["pruned"] = PRUNE
        parent.waiting.append(begun)

    parent.actions = {
        ("stopped", 10): lambda: parent.signals.update(stopped=signal.SIGTERM),
        ("pruned", 20): replace,
    }
    train_cohort(parent)
    expected = {"stays": "completed", "stopped": "interrupted", "pruned": "pruned"}
    assert parent.statuses == expected | {"begun": "completed"}
    assert "checkpoint saved; continue with" in (parent.endings["stopped"].reason or "")
    assert (load_newest_checkpoint(tmp_path / "pruned") or {})["step"] >= 20
    for attempt in (attempts[0], begun):
        assert_alike(train_alone(attempt), attempt.run_dir)
    # A run of a cohort can go on alone.
    stopped = attempts[1]
    run(OmegaConf.create(stopped.config), stopped.run_dir)
    assert_alike(train_alone(stopped), stopped.run_dir)


def test_prune_request_for_a_run_that_has_not_begun_does_not_end_it(tmp_path: Path) -> None:
    attempts = [make_attempt(tmp_path, name) for name in ("begun", "waiting")]
    parent = Parent(*attempts)
    assert PRUNE is not None
    parent.actions = {("begun", 10): lambda: parent.signals.update(waiting=PRUNE)}
    train_cohort(parent, AS_CONFIGURED)
    assert not parent.actions
    assert parent.statuses == {"begun": "completed", "waiting": "completed"}


def test_runs_that_are_trained_one_by_one_can_be_stopped_pruned_and_resumed(
    tmp_path: Path,
) -> None:
    attempts = [
        make_attempt(tmp_path, name, f"seed={seed}")
        for seed, name in enumerate(("stopped", "pruned", "waiting"))
    ]
    parent = Parent(*attempts)

    def prune() -> None:
        assert PRUNE is not None
        parent.signals = {"pruned": PRUNE, "waiting": signal.SIGTERM}

    parent.actions = {
        ("stopped", 10): lambda: parent.signals.update(stopped=signal.SIGTERM),
        ("pruned", 20): prune,
    }
    train_cohort(parent, AS_CONFIGURED)
    assert parent.statuses == {
        "stopped": "interrupted",
        "pruned": "pruned",
        "waiting": "interrupted",
    }
    assert parent.endings["waiting"].reason == "stopped before it began"
    assert not (tmp_path / "waiting").exists()
    # No step is made after the signal has arrived.
    assert (load_newest_checkpoint(tmp_path / "stopped") or {})["step"] == 10
    assert (read_result(tmp_path / "pruned") or {})["steps"] == 20
    parent = Parent(attempts[0], attempts[2])
    train_cohort(parent, AS_CONFIGURED)
    assert parent.statuses == {"stopped": "completed", "waiting": "completed"}
    for attempt in (attempts[0], attempts[2]):
        assert content(attempt.run_dir) == content(train_alone(attempt))


def test_run_can_be_stopped_during_its_first_step(tmp_path: Path) -> None:
    """A launcher kills a run that has told no progress. A first evaluation may take minutes."""

    class Evaluating(Parent):
        def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
            told.append((step, record))

    told: list[tuple[int, dict[str, Any] | None]] = []
    attempt = make_attempt(tmp_path, "a", "trainer.max_steps=4", "logging.every=1")
    train_cohort(Evaluating(attempt), AS_CONFIGURED)
    assert told[0] == (0, None)
    assert told[1][1] is not None


@pytest.mark.parametrize("place", ["stack", "compare_steps"])
def test_half_the_runs_are_tried_where_there_is_no_memory_to_stack_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}") for i in range(4)]

    def fails(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    parent = Parent(*attempts)
    with monkeypatch.context() as patch:
        # The comparison makes a stack of its own, in another module.
        module = confirm if place == "compare_steps" else stacked
        patch.setattr(module, "stack", fails)
        train_cohort(parent)
    assert parent.endings == {}
    assert parent.notes == []
    assert parent.returns == {attempt.name: ("memory ran out", 2) for attempt in attempts}
    parent = Parent(*attempts[:2])
    train_cohort(parent)
    assert parent.statuses == {"r0": Status.COMPLETED, "r1": Status.COMPLETED}


def test_run_that_is_left_alone_says_how_much_memory_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    parent = Parent(make_attempt(tmp_path, "r0"))
    monkeypatch.setattr(ProgramStep, "__call__", fails)
    monkeypatch.setattr(Autotuner, "_candidates", lambda tuner: [STACKED])
    train_cohort(parent)
    assert parent.returns == {}
    assert parent.statuses == {"r0": Status.RAISED}
    assert "/r0: memory ran out in step 2, 20.00 GiB more" in str(parent.endings["r0"].reason)
    assert "OutOfMemoryError" in (tmp_path / "r0" / "train.log").read_text()


@pytest.mark.parametrize(
    ("error", "max_runs", "reason"),
    [
        (torch.OutOfMemoryError("no more"), 2, "memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "memory ran out"),
        (
            RuntimeError("kernel is wrong\nand more"),
            1,
            "a step of all failed, RuntimeError: kernel is wrong",
        ),
    ],
)
def test_runs_go_on_elsewhere_from_their_checkpoints_if_a_step_of_all_fails(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    max_runs: int,
    reason: str,
) -> None:
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}") for i in range(4)]
    steps, original = 0, ProgramStep.__call__

    def fails(self: ProgramStep, *given: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 25:
            raise error
        return original(self, *given)

    parent = Parent(*attempts)
    with monkeypatch.context() as patch:
        patch.setattr(ProgramStep, "__call__", fails)
        train_cohort(parent)
    assert parent.endings == {}
    assert parent.returns == {attempt.name: (reason, max_runs) for attempt in attempts}
    for attempt in attempts[:2]:
        assert read_result(attempt.run_dir) is None
        assert (load_newest_checkpoint(attempt.run_dir) or {})["step"] == 20
    parent = Parent(*attempts[:2])
    train_cohort(parent)
    assert set(parent.statuses.values()) == {"completed"}
    assert_alike(train_alone(attempts[0]), attempts[0].run_dir)


def test_error_of_one_run_ends_that_run_only(tmp_path: Path) -> None:
    good, last = (
        make_attempt(tmp_path, name, f"seed={seed}") for seed, name in enumerate(("good", "last"))
    )
    wrong = make_attempt(tmp_path, "wrong", "seed=5")
    wrong.config["trainer"]["batch_size"] = 100_000
    full = make_attempt(tmp_path, "full", "seed=6")
    parent = Parent(good, wrong, full, last)
    parent.actions = {("full", 10): lambda: replace_by_file(full.run_dir / "checkpoints")}
    train_cohort(parent)
    assert parent.statuses["good"] == parent.statuses["last"] == "completed"
    assert parent.statuses["wrong"] == "refused"
    assert not (tmp_path / "wrong").exists()
    assert parent.statuses["full"] == "refused"


def replace_by_file(folder: Path) -> None:
    """Let nothing be written into a folder any more."""
    if folder.is_dir():
        shutil.rmtree(folder)
    folder.touch()


@pytest.mark.parametrize(
    "settings", [ALWAYS_STACKED, AS_CONFIGURED], ids=["stacked", "as configured"]
)
def test_run_whose_directory_disappears_is_refused_and_the_others_go_on(
    tmp_path: Path, settings: CohortSettings
) -> None:
    good, gone = (
        make_attempt(tmp_path, name, f"seed={seed}") for seed, name in enumerate(("good", "gone"))
    )
    parent = Parent(gone, good)
    parent.actions = {("gone", 10): lambda: shutil.rmtree(gone.run_dir)}
    train_cohort(parent, settings)
    assert parent.returns == {}
    assert parent.statuses == {"gone": "refused", "good": "completed"}
    reason = parent.endings["gone"].reason or ""
    assert str(gone.run_dir) in reason
    assert "cannot be written (No such file or directory)" in reason


def test_runs_that_cannot_be_stacked_are_trained_one_by_one_and_a_note_says_why(
    tmp_path: Path,
) -> None:
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}") for i in range(2)]
    for attempt in attempts:
        attempt.config["model"]["_target_"] = "dropout.mlp_with_dropout"
    parent = Parent(*attempts)
    train_cohort(parent)
    assert set(parent.statuses.values()) == {"completed"}
    assert any(note.startswith("together: not these runs, ") for note in parent.notes)
    assert "randomness" in parent.notes[0]


def test_runs_with_dropout_that_take_turns_are_the_same_as_alone(tmp_path: Path) -> None:
    """Dropout draws from the global random state, of which every run has its own."""
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}") for i in range(2)]
    for attempt in attempts:
        attempt.config["model"]["_target_"] = "dropout.mlp_with_dropout"
    parent = Parent(*attempts)
    cohort = Cohort(parent, parent, ALWAYS_STACKED)
    cohort.check_inbox()
    cohort.let_more_in()
    cohort.arrange(SEQUENTIAL)
    turns = 0
    while cohort.check_inbox():
        (run_set,) = cohort.run_sets
        # A run is trained to its end before the next one, unless their order changes.
        run_set.runs.reverse()
        cohort.take_turn()
        turns += 1
    assert turns >= 8
    assert parent.statuses == {"r0": "completed", "r1": "completed"}
    for attempt in attempts:
        alone = train_alone(attempt)
        assert content(attempt.run_dir) == content(alone)
        assert log_messages(attempt.run_dir) == log_messages(alone)


def test_runs_for_which_there_is_no_memory_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "memory_limit", lambda run: 2)
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}") for i in range(3)]
    parent = Parent(*attempts)
    train_cohort(parent)
    assert parent.statuses == {"r0": "completed", "r1": "completed"}
    assert parent.returns == {"r2": ("there is memory for 2 runs at once", 2)}


def test_memory_limit_is_lower_for_wider_networks(tmp_path: Path) -> None:
    limits = []
    for width in (16, 512):
        attempt = make_attempt(tmp_path, f"w{width}", f"model.hidden_dim={width}")
        with Run.open(OmegaConf.create(attempt.config), attempt.run_dir) as opened:
            with opened.active():
                limits.append(memory_limit(opened))
            assert opened.step == 1
    assert limits[0] > limits[1] >= 1


@pytest.mark.slow
def test_metrics_of_many_seeds_are_distributed_as_alone(tmp_path: Path) -> None:
    """Rounding makes the runs of the same seeds other runs in the end, of the same quality."""
    from scipy.stats import mannwhitneyu

    longer = ["trainer.max_steps=1500", "trainer.checkpoint_every=1500", "metrics.every=1500"]
    longer += ["logging.every=500", "logging.samples_every=1500", "optimizer.lr=1e-3"]
    attempts = [make_attempt(tmp_path, f"r{i}", f"seed={i}", *longer) for i in range(16)]
    train_cohort(Parent(*attempts))
    in_cohort, alone = (
        [read_records(run_dir)[-1]["sliced_wasserstein"] for run_dir in run_dirs]
        for run_dirs in (
            [attempt.run_dir for attempt in attempts],
            [train_alone(attempt) for attempt in attempts],
        )
    )
    assert in_cohort != alone
    assert mannwhitneyu(in_cohort, alone).pvalue > 0.01
    assert sorted(in_cohort)[8] == pytest.approx(sorted(alone)[8], rel=0.2)
