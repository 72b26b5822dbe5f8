"""Checkpoints and runs that are not needed any more are removed, and nothing else is."""

import json
import os
import time
from pathlib import Path

import pytest
from fake_runs import make_run
from filelock import FileLock

from gan.commands.clean import Options, clean
from gan.compare.clean import Removal, disk_use, removals, remove
from gan.compare.frame import read_table
from gan.errors import UserError
from gan.run.directory import claimed, in_use

METRIC = "sliced_wasserstein"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for name, value, status, points in (
        ("best", 0.1, "completed", 6),
        ("second", 0.2, "completed", 6),
        ("third", 0.3, "completed", 6),
        ("diverged", 0.05, "diverged", 6),
        ("failed", 0.4, "failed", 2),
        ("interrupted", 0.4, "interrupted", 2),
        ("killed", 0.4, None, 2),
        ("empty", 0.4, None, 0),
        ("running", 0.4, "failed", 0),
    ):
        run = make_run(folder / name, value=value, status=status, points=points)
        if name != "empty":
            (run / "checkpoints").mkdir()
            (run / "checkpoints" / "step-00000100.pt").write_bytes(bytes(1000))
    return folder


def removals_by_run(runs: Path, older: float = 0.0) -> dict[str, Removal]:
    listed = removals(read_table([runs]), METRIC, keep=2, older=older)
    return {removal.run_dir.name: removal for removal in listed}


def test_weaker_checkpoints_and_failed_and_empty_runs_are_removed(runs: Path) -> None:
    before = sorted(runs.rglob("*"))
    with claimed(runs / "running"):
        listed = removals_by_run(runs)
        assert set(listed) == {"third", "diverged", "failed", "empty"}
        assert listed["third"].paths == [runs / "third" / "checkpoints" / "step-00000100.pt"]
        assert listed["third"].size == 1000
        assert sorted(runs.rglob("*")) == before
        assert [remove(removal) for removal in listed.values()] == [None] * 4
    assert {path.name for path in runs.iterdir()} == {
        "best", "second", "third", "diverged", "interrupted", "killed", "running",
    }  # fmt: skip
    with_checkpoints = {path.parent.name for path in runs.glob("*/checkpoints")}
    assert with_checkpoints == {"best", "second", "interrupted", "killed", "running"}
    assert (runs / "third" / "result.json").exists()
    assert set(removals_by_run(runs)) == {"running"}


def test_checkpoints_of_runs_without_the_measure_are_left_alone(tmp_path: Path) -> None:
    for number in range(4):
        make_run(tmp_path / f"digits{number}", f"seed={number}", value=number)
    for number in range(3):
        run = make_run(tmp_path / f"ring{number}", "data=ring8", f"seed={number}")
        for name in ("metrics.jsonl", "result.json"):
            text = (run / name).read_text().replace(METRIC, "high_quality")
            (run / name).write_text(text)
    for run in tmp_path.iterdir():
        (run / "checkpoints").mkdir()
        (run / "checkpoints" / "step-00000100.pt").write_bytes(bytes(1000))
    assert set(removals_by_run(tmp_path)) == {"digits2", "digits3"}


def test_a_run_that_was_measured_lately_is_left_alone(runs: Path) -> None:
    for path in runs.rglob("*"):
        os.utime(path, (0, 0))
    assert "third" in removals_by_run(runs, older=3600)
    (runs / "third" / "metrics-fast.json").write_text("{}")
    assert "third" not in removals_by_run(runs, older=3600)


def test_a_run_that_has_started_again_is_left_alone(runs: Path) -> None:
    listed = removals_by_run(runs)
    lock = FileLock(runs / "failed" / ".lock")
    with lock:
        before = sorted((runs / "failed").rglob("*"))
        assert "another process is at work" in str(remove(listed["failed"]))
        assert sorted((runs / "failed").rglob("*")) == before


def test_a_sweep_at_work_is_left_alone(runs: Path) -> None:
    (runs / "sweep.json").write_text("{}")
    assert removals_by_run(runs)
    with FileLock(runs / ".lock"):
        assert not removals_by_run(runs)


def test_runs_that_changed_lately_are_left_alone(runs: Path) -> None:
    assert not removals_by_run(runs, older=3600)
    for path in (runs / "third").rglob("*.*"):
        os.utime(path, (time.time() - 7200,) * 2)
    assert set(removals_by_run(runs, older=3600)) == {"third"}


def test_files_of_others_and_the_targets_of_links_are_left(runs: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "image.png").touch()
    (runs / "failed" / "thoughts.txt").write_text("keep me")
    (runs / "failed" / "checkpoints" / "best.pt").write_text("keep me")
    (runs / "third" / "checkpoints").rename(mine / "checkpoints")
    (runs / "third" / "checkpoints").symlink_to(mine / "checkpoints")
    (runs / "empty" / "samples").rmdir()
    (runs / "empty" / "samples").symlink_to(mine)
    listed = removals_by_run(runs)
    assert "third" not in listed
    assert "which are left" in str(remove(listed["failed"]))
    assert "samples: is a link" in str(remove(listed["empty"]))
    assert (runs / "failed" / "thoughts.txt").exists()
    assert (runs / "failed" / "checkpoints" / "best.pt").exists()
    assert not (runs / "failed" / "config.yaml").exists()
    assert (runs / "empty" / "config.yaml").exists()
    assert sorted(mine.rglob("*.*")) == [mine / "checkpoints/step-00000100.pt", mine / "image.png"]


def test_folders_of_another_program_are_left(tmp_path: Path) -> None:
    make_run(tmp_path / "runs/ours", status="failed")
    other = tmp_path / "runs/other"
    for name in ("samples/step-000001.png", "checkpoints/step-1.pt", "config.yaml"):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text("the work of a week")
    (other / "result.json").write_text('{"status": "failed", "error": "no disk", "versions": {}}')
    before = sorted(other.rglob("*"))
    listed = removals_by_run(tmp_path / "runs")
    assert [*listed] == ["ours"]
    assert remove(listed["ours"]) is None
    assert sorted(other.rglob("*")) == before
    assert not (tmp_path / "runs/ours").exists()


def test_a_run_can_start_and_is_unchanged_after_a_look_at_its_lock(runs: Path) -> None:
    path = runs / "best"
    before = (path / ".lock").stat()
    assert not in_use(path)
    assert (path / ".lock").stat().st_mtime_ns == before.st_mtime_ns
    with claimed(path):
        assert in_use(path)
    assert not in_use(path / "nothing")
    assert json.loads((path / "result.json").read_text())["status"] == "completed"


def test_runs_from_the_future_are_removed_if_no_age_is_asked_for(runs: Path) -> None:
    later = time.time() + 3600
    for path in (runs / "third").iterdir():
        os.utime(path, (later, later))
    assert "third" in removals_by_run(runs)
    assert "third" not in removals_by_run(runs, older=1)


def test_disk_use_counts_every_file_once_and_says_what_it_is_for(runs: Path) -> None:
    (runs / "best" / "events.out.tfevents.1.host.1").write_bytes(bytes(300))
    (runs / "best" / "samples" / "step-000100.png").write_bytes(bytes(20))
    (runs / "best" / "link.pt").symlink_to(runs / "best" / "events.out.tfevents.1.host.1")
    sizes = disk_use([runs, runs / "best"])
    assert (sizes["checkpoints"], sizes["events"], sizes["samples"]) == (8000, 300, 20)
    logs = [path for name in ("metrics.jsonl", "result.json") for path in runs.rglob(name)]
    assert sizes["logs"] == sum(path.stat().st_size for path in logs)
    every = [path for path in runs.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(sizes.values()) == sum(path.stat().st_size for path in every)


@pytest.mark.parametrize("sort", ["-sliced_wasserstein", "seed", "run", "path"])
def test_best_runs_are_kept_by_a_measure_alone(sort: str, runs: Path) -> None:
    with pytest.raises(UserError, match=r"must be a measure|cannot be ranked by"):
        clean([runs], Options(sort=sort, keep=1))


def test_nothing_is_removed_where_nobody_knows_which_runs_are_best(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.compare.query.has_direction", lambda name: False)
    with pytest.raises(UserError, match="is it better high or low"):
        clean([runs], Options(keep=1, yes=True))
    assert (runs / "third" / "checkpoints" / "step-00000100.pt").exists()
