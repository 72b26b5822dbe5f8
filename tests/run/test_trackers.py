"""Trackers follow a run live, and nothing that they do harms it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import fake_trackers
import pytest
from cohorts import Parent, make_attempt, train_cohort
from fake_trackers import entries, scalars
from omegaconf import OmegaConf
from runs import content, interrupt_at, short
from sweep_commands import Begin, execute, finish, kill, resume_command, sweep_command, wait_until

from gan.config.compose import compose
from gan.errors import Interrupted, UserError
from gan.run.directory import read_config
from gan.run.provenance import read_provenance
from gan.run.result import read_records, read_result
from gan.run.trackers import feed
from gan.train import run


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Deliver at once, wait shortly, and end trackers that hang."""
    monkeypatch.setattr(feed, "ROUND_SECONDS", 0.01)
    monkeypatch.setattr(feed, "_patience", {})
    fake_trackers.never.clear()
    yield
    fake_trackers.never.set()


def notebook(folder: Path, *settings: str, name: str = "notes") -> list[str]:
    """Return the overrides that add a notebook."""
    key = f"+logging.trackers.{name}"
    target = [f"{key}._target_=fake_trackers.Notebook", f"{key}.folder={folder}"]
    return [*target, *(f"{key}.{setting}" for setting in settings)]


def the_file(folder: Path) -> Path:
    """Return the file of the only run in a notebook."""
    (file,) = folder.iterdir()
    return file


def warnings(run_dir: Path) -> list[str]:
    """Return the warnings in a run's log."""
    return [line for line in (run_dir / "train.log").read_text().splitlines() if "WARNING" in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run without a tracker."""
    run_dir = tmp_path_factory.mktemp("alone") / "run"
    run(short(), run_dir)
    return run_dir


def test_a_tracker_gets_every_record_and_picture_and_changes_nothing(
    alone: Path, tmp_path: Path
) -> None:
    run(short(*notebook(tmp_path / "notes")), tmp_path / "run")
    file = the_file(tmp_path / "notes")
    records = read_records(tmp_path / "run")
    assert [step for step, _ in scalars(file)] == [record["step"] for record in records]
    for (_, values), record in zip(scalars(file), records, strict=True):
        assert {name: values[name] for name in record if name != "step"} == {
            name: value for name, value in record.items() if name != "step"
        }
    measured = [values for _, values in scalars(file) if "sliced_wasserstein" in values]
    best = [values["best/sliced_wasserstein"] for values in measured]
    assert best == sorted(best, reverse=True)
    pictures = [[0, "real"], *([step, "samples"] for step in (0, 10, 20, 30, 40))]
    assert entries(file, "image") == pictures
    assert entries(file, "start") == [{"name": "run", "group": None, "lr": 0.0002}]
    assert entries(file, "finish") == ["completed"]
    assert content(tmp_path / "run") == content(alone)


def test_a_tracker_follows_the_run_while_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look() -> None:
        wait_until(lambda: list((tmp_path / "notes").glob("*")))
        wait_until(lambda: scalars(the_file(tmp_path / "notes")))
        seen.extend(step for step, _ in scalars(the_file(tmp_path / "notes")))

    interrupt_at(monkeypatch, 9, look)
    run(short(*notebook(tmp_path / "notes")), tmp_path / "run")
    assert seen == [7]


def test_any_number_of_trackers_follow_a_run(tmp_path: Path) -> None:
    both = [*notebook(tmp_path / "a", name="a"), *notebook(tmp_path / "b", name="b")]
    run(short(*both), tmp_path / "run")
    found = scalars(the_file(tmp_path / "a"))
    assert [step for step, _ in found] == [r["step"] for r in read_records(tmp_path / "run")]
    assert scalars(the_file(tmp_path / "b")) == found


@pytest.mark.parametrize("step", [4, 23])
def test_a_resumed_run_goes_on_in_the_same_tracker_run_and_repeats_nothing(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    cfg = short(*notebook(tmp_path / "notes"))

    def fail() -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        interrupt_at(patch, step, fail)
        with pytest.raises(RuntimeError):
            run(cfg, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(cfg, tmp_path / "run")
    run(cfg, tmp_path / "run")
    file = the_file(tmp_path / "notes")
    assert [s for s, _ in scalars(file)] == [r["step"] for r in read_records(alone)]
    assert [s for s, _ in entries(file, "image")] == [0, 0, 10, 20, 30, 40]
    assert entries(file, "finish") == ["failed", "interrupted", "completed"]
    assert content(tmp_path / "run") == content(alone)


def test_a_tracker_that_is_added_later_gets_the_whole_history(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(patch, 33, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(short(), tmp_path / "run")
    run(short(*notebook(tmp_path / "notes")), tmp_path / "run")
    steps = [step for step, _ in scalars(the_file(tmp_path / "notes"))]
    assert steps == [record["step"] for record in read_records(alone)]


@pytest.mark.parametrize("trouble", ["raises", "exits"])
def test_a_tracker_that_fails_gives_one_warning_and_harms_nothing(
    alone: Path, tmp_path: Path, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(short("logging=quiet", *notebook(tmp_path / "notes", f"trouble={trouble}")), tmp_path / "r")
    (warning,) = warnings(tmp_path / "r")
    assert "tracker notes: " in warning
    assert "metrics.jsonl has all values" in warning
    assert content(tmp_path / "r") == content(alone)
    assert "Traceback" not in capsys.readouterr().err


def test_a_tracker_that_was_away_gets_what_it_missed(alone: Path, tmp_path: Path) -> None:
    settings = "trouble=raises", "calls=2", "until=3"
    run(short(*notebook(tmp_path / "notes", *settings)), tmp_path / "run")
    steps = [step for step, _ in scalars(the_file(tmp_path / "notes"))]
    assert steps == [record["step"] for record in read_records(alone)]


def test_a_tracker_that_hangs_is_waited_for_once_and_not_for_each_run(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "END_SECONDS", 0.2)
    for name in ("first", "second"):
        run(short(*notebook(tmp_path / "notes", "trouble=hangs")), tmp_path / name)
        (warning,) = warnings(tmp_path / name)
        assert "tracker notes: has not answered" in warning
        assert content(tmp_path / name) == content(alone)
    assert feed._patience["notes"] == 0


def test_an_unwritable_tracker_gives_one_warning(alone: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("a file")
    run(short(*notebook(tmp_path / "notes")), tmp_path / "run")
    (warning,) = warnings(tmp_path / "run")
    assert "FileExistsError" in warning
    assert content(tmp_path / "run") == content(alone)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["_target_=nowhere.Tracker"], "_target_=nowhere.Tracker: there is no module 'nowhere'"),
        (["_target_=fake_trackers.Notebok"], "has no function 'Notebok'; did you mean 'Notebook'?"),
        (["_target_=argparse.Namespace"], "is no tracker, it has no method 'start'"),
        (["_target_=os.path"], "_target_=os.path: os has no function 'path'"),
        (["_target_=fake_trackers.Careless"], "cannot be made (OSError: no such socket)"),
        (["folder=a"], "_target_=None: must name a class"),
        (["_target_=fake_trackers.Notebook"], "cannot be made (TypeError: "),
        (
            ["_target_=fake_trackers.Notebook", "folder=a", "troubel=x"],
            "logging.trackers.x.troubel=x: unknown key; did you mean 'logging.trackers.x.trouble'?",
        ),
    ],
)
def test_a_wrong_tracker_is_refused_before_anything_is_written(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    keys = [f"+logging.trackers.x.{override}" for override in overrides]
    with pytest.raises(UserError) as caught:
        run(short(*keys), tmp_path / "run")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^logging\.trackers\.x=3: must be a mapping, such as"):
        run(short("+logging.trackers.x=3"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_tracker_whose_library_is_missing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'gan-sweeps\[mlflow\]'"):
        run(short("logging=mlflow"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_sweep_with_a_wrong_tracker_is_refused_before_any_run(tmp_path: Path) -> None:
    key = "+logging.trackers.x._target_=nowhere.Tracker"
    code, _, err = execute(sweep_command(tmp_path / "sweep", "seed=0,1", key))
    assert code == 2
    assert err.strip().startswith("logging.trackers.x._target_=nowhere.Tracker: there is no")
    assert not (tmp_path / "sweep").exists()


def test_options_of_logging_combine(tmp_path: Path) -> None:
    assert set(compose("logging=[mlflow,wandb,trackio]").logging.trackers) == {
        "mlflow",
        "wandb",
        "trackio",
    }
    cfg = compose("logging=[quiet,mlflow]", "logging.trackers.mlflow.experiment=mine")
    assert not cfg.logging.tensorboard
    assert cfg.logging.trackers.mlflow.experiment == "mine"
    assert compose("logging=mlflow").logging.tensorboard


def test_each_run_of_a_cohort_has_its_own_tracker_run(tmp_path: Path) -> None:
    overrides = notebook(tmp_path / "notes")
    attempts = [
        make_attempt(tmp_path, name, *overrides, f"optimizer.lr={lr}")
        for name, lr in (("slow", 1e-4), ("fast", 1e-3), ("mad", 1e30))
    ]
    train_cohort(Parent(*attempts))
    by_name = {entries(file, "start")[0]["name"]: file for file in (tmp_path / "notes").iterdir()}
    assert set(by_name) == {"slow", "fast", "mad"}
    for attempt in attempts:
        result = read_result(attempt.run_dir)
        assert result is not None
        file = by_name[attempt.name]
        assert entries(file, "finish") == [result["status"]]
        assert [s for s, _ in scalars(file)] == [r["step"] for r in read_records(attempt.run_dir)]
    assert entries(by_name["mad"], "finish") == ["diverged"]


@pytest.mark.slow
def test_a_killed_sweep_goes_on_in_the_same_tracker_runs(tmp_path: Path, begin: Begin) -> None:
    sweep, notes = tmp_path / "sweep", tmp_path / "notes"
    command = sweep_command(sweep, "seed=0,1", "trainer.max_steps=600", *notebook(notes))
    process = begin(command)
    wait_until(lambda: len(list(notes.glob("*"))) == 2 and all(map(scalars, notes.iterdir())))
    kill(process.pid)
    finish(process)
    before = set(notes.iterdir())
    code, _, err = execute(resume_command(sweep))
    assert code == 0, err
    assert set(notes.iterdir()) == before
    for run_dir in sweep.glob("seed=*"):
        provenance = read_provenance(run_dir)
        assert provenance
        file = notes / f"{provenance['id']}.jsonl"
        assert {start["group"] for start in entries(file, "start")} == {"sweep"}
        assert [s for s, _ in scalars(file)] == [r["step"] for r in read_records(run_dir)]
        assert entries(file, "finish")[-1] == "completed"


def test_a_run_that_was_begun_without_these_keys_goes_on(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 23, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run(short(), run_dir)
    cfg = read_config(run_dir)
    del cfg.logging["trackers"], cfg.trainer["init_from"], cfg.trainer["init_hash"]
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    (run_dir / "provenance.json").unlink()
    run(read_config(run_dir), run_dir)
    assert content(run_dir) == content(alone)
