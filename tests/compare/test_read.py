"""Runs are found and read, whatever state they are in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import make_record, make_run, make_sweep
from filelock import FileLock

from gan.compare import history, load
from gan.errors import UserError


def test_runs_are_found_at_any_depth_and_copies_of_conf_are_not_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "2026" / "sweep" / "x=1")
    make_run(tmp_path / "2026" / "other" / "x=1")
    (tmp_path / "2026" / "sweep" / "sweep.json").write_text("{}")
    make_run(tmp_path / "2026" / "sweep" / "conf" / "0")
    frame = load(tmp_path, tmp_path / "2026" / "sweep")
    assert list(frame["run"]) == ["other/x=1", "sweep/x=1"]


def test_an_error_says_where_no_run_was_found_and_what_a_run_looks_like(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no runs found in .* config\.yaml and overrides\.yaml"):
        load(tmp_path)
    with pytest.raises(UserError, match="nowhere: does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run directory"):
        history(tmp_path)


def test_status_of_runs_that_are_going_on_or_were_stopped(tmp_path: Path) -> None:
    make_run(tmp_path / "killed", status=None)
    make_run(tmp_path / "going on", status=None, points=2)
    make_run(tmp_path / "again", status="interrupted", points=2)
    make_run(tmp_path / "stopped", status="interrupted")
    make_run(tmp_path / "finished")
    locks = [FileLock(tmp_path / name / ".lock") for name in ("going on", "again", "finished")]
    for lock in locks:
        lock.acquire()
    with (tmp_path / "again" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(make_record(300, 0.25)) + "\n")
    frame = load(tmp_path).set_index("run")
    assert frame["status"].to_dict() == {
        "again": "running",
        "finished": "completed",
        "going on": "running",
        "killed": "interrupted",
        "stopped": "interrupted",
    }
    assert frame.loc["again", ["steps", "sliced_wasserstein"]].tolist() == [300, 0.25]
    for lock in locks:
        lock.release()
    assert load(tmp_path).set_index("run")["status"]["going on"] == "interrupted"


@pytest.mark.parametrize(
    ("damage", "points"),
    [
        (lambda text: text[:-20], 5),
        (lambda text: text + '{"step": 700, "sli', 6),
        (lambda text: text.replace('{"step": 300', '{"st\0\0ep": 300'), 5),
        (lambda text: text + "\n[1]\nnull\n{}\n", 6),
        (lambda text: "", 0),
    ],
)
def test_a_damaged_metrics_file_loses_its_damaged_lines_alone(
    tmp_path: Path, damage: Any, points: int
) -> None:
    run = make_run(tmp_path / "run", status=None)
    file = run / "metrics.jsonl"
    file.write_text(damage(file.read_text()))
    assert len(history(run)) == points
    assert load(run)["steps"].tolist() == [100 * (points if "\0" not in file.read_text() else 6)]


def test_results_that_are_damaged_or_of_another_version_are_read(tmp_path: Path) -> None:
    make_run(tmp_path / "newer", score={"a": [1]}, best="moved", final=[1], seconds={"train": 1})
    half = make_run(tmp_path / "half")
    text = (half / "result.json").read_text()
    (half / "result.json").write_text(text[: len(text) // 2])
    list_ = make_run(tmp_path / "list")
    (list_ / "result.json").write_text("[]")
    bad = make_run(tmp_path / "bad")
    (bad / "config.yaml").write_text("model: [")
    old = make_run(tmp_path / "old")
    (old / "config.yaml").write_text("optimizer:\n  lr: 0.5\n  momentum: 0.5\nseed: 0\n")
    frame = load(tmp_path).set_index("run")
    assert len(frame) == 5
    assert frame["sliced_wasserstein"].tolist() == [0.5] * 5
    assert frame["status"].to_dict() == {
        "bad": "completed",
        "half": "interrupted",
        "list": "interrupted",
        "newer": "completed",
        "old": "completed",
    }
    assert np.isnan(frame["seconds"]["newer"])
    assert frame["lr"]["old"] == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "optimizer: &same\n  lr: 0.5\ndiscriminator_optimizer: *same\nseed: 0\n",
        "# a comment\n---\noptimizer: {lr: 0.5}\nnotes: 'two\n\n  lines'\nseed: 0\n",
        '{"optimizer": {"lr": 0.5}, "seed": 0}',
    ],
)
def test_a_configuration_in_another_style_of_yaml_is_read(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(text)
    row = load(run, keys=["optimizer.lr", "seed"]).iloc[0]
    assert (row["optimizer.lr"], row["seed"]) == (0.5, 0)


def test_a_run_that_failed_before_it_began_has_the_planned_configuration(tmp_path: Path) -> None:
    make_run(tmp_path / "lr=1", "optimizer.lr=1.0")
    failed = tmp_path / "lr=2"
    failed.mkdir()
    (failed / "result.json").write_text('{"status": "failed", "error": "OSError: gone"}')
    job = {"name": "lr=2", "config": {"optimizer": {"lr": 2.0}, "seed": 0}}
    (tmp_path / "sweep.json").write_text("{}")
    (tmp_path / "jobs.jsonl").write_text(json.dumps(job) + "\n")
    frame = load(tmp_path).set_index("run")
    assert frame["lr"].tolist() == [1.0, 2.0]
    assert frame["error"]["lr=2"] == "OSError: gone"


def test_reading_writes_nothing_and_sees_later_changes(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "sweep")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert len(load(sweep)) == 12
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    changed = sweep / "hidden_dim=256,lr=0.001,seed=0" / "result.json"
    changed.write_text(changed.read_text().replace("completed", "failed"))
    assert load(sweep)["status"].value_counts()["failed"] == 1


def test_runs_are_found_without_importing_torch_or_pandas() -> None:
    code = "import sys, gan.compare.read; sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
