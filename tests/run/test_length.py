"""Another length for a run that exists: it ends as if it had had that length from the start."""

import importlib
import shutil
from pathlib import Path

import pytest
from runs import content, fail_at, short
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from gan.commands import resume
from gan.errors import UserError
from gan.run.directory import read_config, read_overrides
from gan.run.result import Record, Result, read_records, read_result, write_result
from gan.run.verdict import Watch
from gan.train import run

IN_TURN = ("logging.every=5", "metrics.every=10", "trainer.max_steps=20")
"""The last step is one at which a longer run records as well."""
QUIET = "logging.tensorboard=false"
LONGER = "trainer.max_steps=40"


def extend(run_dir: Path, max_steps: int | None = 40, max_epochs: int | None = None) -> None:
    """Do what `gan resume RUN_DIR trainer.max_steps=40` does."""
    options = resume.Options(max_steps=max_steps, max_epochs=max_epochs)
    resume.resume([run_dir], options)


def result_of(run_dir: Path) -> Result:
    result = read_result(run_dir)
    assert result
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run of 20 steps."""
    run_dir = tmp_path_factory.mktemp("length") / "finished"
    cfg = short(*IN_TURN, QUIET)
    run(cfg, run_dir, overrides=["optimizer.lr=2e-4", "trainer.max_steps=20"])
    return run_dir


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that had 40 steps from the start."""
    run_dir = tmp_path_factory.mktemp("length") / "long"
    run(short(*IN_TURN, QUIET, LONGER), run_dir)
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_finished_run_goes_on_as_if_it_had_been_that_long(run_dir: Path, long: Path) -> None:
    extend(run_dir)
    assert content(run_dir) == content(long)
    here, there = result_of(run_dir), result_of(long)
    for name in ("status", "objective", "final", "best", "steps", "images"):
        assert here[name] == there[name]
    assert here["extended"] == [{"step": 20, "max_steps": 20}]
    assert there["extended"] == []


def test_configuration_and_command_line_have_the_new_length(run_dir: Path, long: Path) -> None:
    extend(run_dir)
    assert read_config(run_dir) == read_config(long)
    assert read_overrides(run_dir) == ["optimizer.lr=2e-4", LONGER]
    # To run the configuration there again returns the result.
    assert run(short(*IN_TURN, LONGER), run_dir) == result_of(long)["objective"]


def test_stopped_run_gets_another_length(tmp_path: Path, long: Path) -> None:
    fail_at(18, short(*IN_TURN, QUIET, "trainer.max_steps=30"), tmp_path / "run")
    extend(tmp_path / "run")
    assert content(tmp_path / "run") == content(long)
    assert result_of(tmp_path / "run")["extended"] == [{"step": 10, "max_steps": 30}]


def test_last_step_out_of_turn_leaves_its_own_record_and_nothing_else(tmp_path: Path) -> None:
    run(short(QUIET, "trainer.max_steps=33"), tmp_path / "run")
    run(short(QUIET, "trainer.max_steps=60"), tmp_path / "long")
    extend(tmp_path / "run", 60)
    records, expected = read_records(tmp_path / "run"), read_records(tmp_path / "long")
    assert [record for record in records if record["step"] != 33] == expected
    assert [record["step"] for record in records if record not in expected] == [33]
    here, there = (content(tmp_path / name) for name in ("run", "long"))
    assert here["checkpoint"] == there["checkpoint"]
    assert here["step-000060.png"] == there["step-000060.png"]


def test_length_in_epochs_is_extended_too(tmp_path: Path) -> None:
    epochs = (QUIET, "data=digits", "trainer.batch_size=128", "trainer.max_steps=null")
    run(short(*epochs, "trainer.max_epochs=1"), tmp_path / "run")
    extend(tmp_path / "run", None, 2)
    result = result_of(tmp_path / "run")
    assert result["steps"] == 2 * (result["extended"][0]["step"])
    assert result["extended"][0]["max_epochs"] == 1
    extend(tmp_path / "run", result["steps"] + 3)
    cfg = read_config(tmp_path / "run")
    assert (cfg.trainer.max_steps, cfg.trainer.max_epochs) == (result["steps"] + 3, None)
    assert len(result_of(tmp_path / "run")["extended"]) == 2


@pytest.mark.parametrize("steps", [19, 0, -1])
def test_no_more_steps_than_were_made_are_refused(run_dir: Path, steps: int) -> None:
    before = content(run_dir), result_of(run_dir)
    with pytest.raises(UserError, match=f"max_steps={steps}: must be more than the 20 steps"):
        extend(run_dir, steps)
    assert (content(run_dir), result_of(run_dir)) == before


def test_length_that_a_finished_run_has_changes_nothing(run_dir: Path) -> None:
    before = result_of(run_dir)
    extend(run_dir, 20)
    assert result_of(run_dir) == before


SCHEDULE = (QUIET, "schedule=linear", "schedule.start=0.5", *IN_TURN)


def test_schedule_that_would_have_been_another_is_refused(tmp_path: Path) -> None:
    run(short(*SCHEDULE), tmp_path / "run")
    before = content(tmp_path / "run"), result_of(tmp_path / "run")
    with pytest.raises(UserError, match="step 12 would have had another value"):
        extend(tmp_path / "run")
    assert (content(tmp_path / "run"), result_of(tmp_path / "run")) == before
    assert read_config(tmp_path / "run").trainer.max_steps == 20


def test_schedule_that_has_been_the_same_so_far_goes_on(tmp_path: Path) -> None:
    fail_at(9, short(*SCHEDULE, "trainer.checkpoint_every=8"), tmp_path / "run")
    extend(tmp_path / "run")
    run(short(*SCHEDULE, LONGER, "trainer.checkpoint_every=8"), tmp_path / "long")
    assert content(tmp_path / "run") == content(tmp_path / "long")


def test_diverged_run_is_not_extended(run_dir: Path) -> None:
    write_result(run_dir, result_of(run_dir) | {"status": "diverged"})
    with pytest.raises(UserError, match="has diverged at step 20"):
        extend(run_dir)


def test_run_without_checkpoints_is_not_extended(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    with pytest.raises(UserError, match="its checkpoints are gone"):
        extend(run_dir)
    assert result_of(run_dir)["status"] == "completed"


def test_sweep_and_its_runs_keep_the_length_of_the_plan(run_dir: Path) -> None:
    (run_dir.parent / "sweep.json").write_text("{}")
    for path in (run_dir, run_dir.parent):
        with pytest.raises(UserError, match=r"^trainer.max_steps=40: .*plan.*copy"):
            extend(path)
    assert read_config(run_dir).trainer.max_steps == 20


def test_other_length_without_resume_names_the_way(run_dir: Path) -> None:
    with pytest.raises(UserError, match=f"another length: .*resume.* {run_dir} {LONGER}"):
        run(short(*IN_TURN, LONGER), run_dir)


@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize(
    "place", ["run.reopen_result", "length.note_extension", "length.store_length"]
)
def test_extension_that_is_killed_leaves_a_run_that_goes_on(
    place: str,
    repeated: bool,
    run_dir: Path,
    finished: Path,
    long: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Test the moments between two files. Those within one are in test_kill_points.py."""
    module, name = place.split(".")
    do = getattr(importlib.import_module(f"gan.run.{module}"), name)

    def do_and_die(*arguments: object) -> None:
        do(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"gan.run.{place}", do_and_die)
        with pytest.raises(KeyboardInterrupt):
            extend(run_dir)
    if repeated:
        extend(run_dir)
    else:
        resume.resume([run_dir], resume.Options())
    is_longer = repeated or name == "store_length"
    assert content(run_dir) == content(long if is_longer else finished)
    result = result_of(run_dir)
    assert (result["status"], result["steps"]) == ("completed", 40 if is_longer else 20)
    assert result["extended"] == [{"step": 20, "max_steps": 20}] * is_longer


def test_tensorboard_tells_of_the_new_length_and_keeps_every_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(watch: Watch, record: Record) -> str | None:
        return "bad" if record["step"] == 10 else None

    monkeypatch.setattr(Watch, "follow", follow)

    def scalars(events: EventAccumulator) -> dict[str, list[tuple[int, float, float]]]:
        tags = events.Tags()["scalars"]
        return {tag: [(e.step, e.wall_time, e.value) for e in events.Scalars(tag)] for tag in tags}

    run(short(*IN_TURN), tmp_path)
    before = scalars(EventAccumulator(str(tmp_path)).Reload())
    extend(tmp_path)
    events = EventAccumulator(str(tmp_path), {"images": 0}).Reload()
    for tag, values in scalars(events).items():
        assert values[: len(before[tag])] == before[tag]
        assert values[-1][0] == 40
    assert [event.step for event in events.Images("samples")] == [0, 10, 20, 30, 40]
    assert [event.step for event in events.Tensors("verdict")] == [10]
    (text,) = events.Tensors("config/text_summary")
    assert "max_steps: 40" in text.tensor_proto.string_val[0].decode()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["trainer.max_steps"].number_value == 40
