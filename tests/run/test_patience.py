"""Runs that end when their objective does not improve any more."""

from pathlib import Path

import pytest
from runs import content, fail_at, short

from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths
from gan.run.directory import RESULT_FILE, read_config
from gan.run.evaluation import Evaluation
from gan.run.notices import closing, next_steps
from gan.run.pictures import sample_files
from gan.run.result import Record, read_records, read_result
from gan.run.run import Run
from gan.train import run

VALUES = (5.0, 4.0, 4.5, 4.5, 3.0, 3.0, 3.1, 3.2, 2.0, 1.0)
"""Values of the objective in steps 4, 8, ... 40."""
PATIENT = ("data=digits", "metrics.every=4", "trainer.checkpoint_every=6", "trainer.patience=3")
END = 32
"""The step of the third measurement in a row that is no better than the one in step 20."""


@pytest.fixture(autouse=True)
def _known_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let measurements give VALUES, also in a run that goes on."""
    statistics = Run._statistics

    def noted(opened: Run) -> Record:
        monkeypatch.setattr(opened.evaluation, "now", opened.step, raising=False)
        return statistics(opened)

    def measure(evaluation: Evaluation) -> dict[str, float]:
        return {"sliced_wasserstein": VALUES[evaluation.now // 4 - 1]}  # type: ignore[attr-defined]

    monkeypatch.setattr(Run, "_statistics", noted)
    monkeypatch.setattr(Evaluation, "measure", measure)


def test_run_stops_after_measurements_without_a_better_value(tmp_path: Path) -> None:
    objective = run(short(*PATIENT), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result
    assert (result["status"], result["steps"], objective) == ("stopped", END, 3.2)
    assert result["best"]["sliced_wasserstein"] == {"value": 3.0, "step": 20}
    assert read_records(tmp_path / "run")[-1]["step"] == END
    # The last step has a picture and a checkpoint, as that of a completed run has.
    assert max(sample_files(tmp_path / "run")) == END
    assert checkpoint_paths(tmp_path / "run")[0].name == f"step-{END:08d}.pt"
    told = closing(tmp_path / "run", read_config(tmp_path / "run"), result)
    assert "after 3 measurements without a better sliced_wasserstein" in told.replace("\n", " ")
    assert "max_steps" not in next_steps(tmp_path / "run", read_config(tmp_path / "run"))


@pytest.mark.parametrize("patience", [4, 100])
def test_run_with_more_patience_is_completed(patience: int, tmp_path: Path) -> None:
    words = (*PATIENT, f"trainer.patience={patience}")
    assert run(short(*words), tmp_path / "run") == 1.0
    result = read_result(tmp_path / "run")
    assert result
    assert (result["status"], result["steps"]) == ("completed", 40)


@pytest.mark.parametrize("step", [3, 14, 21, 27, 32])
def test_resumed_run_stops_at_the_same_step_with_the_same_content(
    step: int, tmp_path: Path
) -> None:
    run(short(*PATIENT), tmp_path / "undisturbed")
    fail_at(step, short(*PATIENT), tmp_path / "run")
    run(short(*PATIENT), tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "undisturbed")


def test_run_that_is_trained_longer_stops_where_one_of_its_length_stops(tmp_path: Path) -> None:
    """The measurement at the first end, between two regular ones, does not count."""
    words = (*PATIENT, "trainer.patience=2")
    run(short(*words), tmp_path / "whole")
    run(short(*words, "trainer.max_steps=10"), tmp_path / "longer")
    assert read_records(tmp_path / "longer")[-1]["sliced_wasserstein"] == VALUES[1]
    run(short(*words), tmp_path / "longer", extend=True)
    whole, longer = (read_result(tmp_path / name) for name in ("whole", "longer"))
    assert whole
    assert longer
    assert (longer["status"], longer["steps"]) == (whole["status"], whole["steps"])


def test_a_better_value_at_the_first_end_does_not_end_the_longer_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Evaluation.measure

    def better_between(evaluation: Evaluation) -> dict[str, float]:
        regular = evaluation.now % 4 == 0  # type: ignore[attr-defined]
        return measure(evaluation) if regular else {"sliced_wasserstein": 0.5}

    monkeypatch.setattr(Evaluation, "measure", better_between)
    run(short(*PATIENT, "trainer.max_steps=18"), tmp_path / "longer")
    assert read_records(tmp_path / "longer")[-1]["sliced_wasserstein"] == 0.5
    run(short(*PATIENT), tmp_path / "longer", extend=True)
    result = read_result(tmp_path / "longer")
    assert result
    assert (result["status"], result["steps"]) == ("stopped", END)


def test_run_that_died_before_its_result_was_written_has_stopped(tmp_path: Path) -> None:
    run(short(*PATIENT), tmp_path / "run")
    (tmp_path / "run" / RESULT_FILE).unlink()
    run(short(*PATIENT), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result
    assert (result["status"], result["steps"]) == ("stopped", END)


def test_stopped_run_is_not_trained_longer(tmp_path: Path) -> None:
    run(short(*PATIENT), tmp_path / "run")
    with pytest.raises(UserError, match=r"^trainer\.max_steps=60: .* has stopped at step 32"):
        run(short(*PATIENT, "trainer.max_steps=60"), tmp_path / "run", extend=True)


def test_patience_needs_a_metric_as_the_objective(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.patience=3: needs a metric as metrics\.object"):
        run(short(*PATIENT, "metrics=none"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
