"""Runs as a table: what is read, in whatever state it is, and how it is chosen and ranked."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from made import make_run, make_sweep, record

import gan.compare.cache
from gan.compare import query
from gan.compare.frame import Table, read_table
from gan.compare.rank import interval, rank, ranks, summary
from gan.compare.read import read_run
from gan.compare.table import print_ranking, print_runs
from gan.errors import UserError
from gan.run.result import history, load


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("compare") / "sweep")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAN_DATA", str(tmp_path / "cache"))


@pytest.fixture
def table(sweep: Path) -> Table:
    return read_table([sweep])


def test_a_row_for_each_run_and_a_column_for_what_differs(sweep: Path) -> None:
    frame = load(sweep)
    assert list(frame)[:5] == ["run", "hidden_dim", "lr", "seed", "status"]
    assert len(frame) == 12
    row = frame.set_index("run").loc["hidden_dim=128,lr=0.001,seed=2"]
    assert (row["hidden_dim"], row["lr"], row["seed"]) == (128, 0.001, 2)
    assert row["sliced_wasserstein"] == row["best/sliced_wasserstein"] == pytest.approx(0.12)
    assert (row["steps"], row["images"], row["seconds"]) == (600, 76800, 12.0)
    assert row["images_per_second"] == 6400
    assert row["path"] == str(sweep / row.name)
    assert frame["status"].value_counts().to_dict() == {"completed": 11, "diverged": 1}


def test_other_keys_on_demand(sweep: Path) -> None:
    frame = load(sweep, keys=["trainer.batch_size", "max_epochs"])
    assert set(frame["trainer.batch_size"]) == {128}
    assert frame["max_epochs"].isna().all()
    with pytest.raises(UserError, match="did you mean 'batch_size'"):
        load(sweep, keys=["batch_siz"])


def test_groups_and_lists_become_columns_that_tell_runs_apart(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "loss=hinge", "optimizer.betas=[0.0,0.9]", "tags=[first]")
    make_run(tmp_path / "b", "penalty=none", "optimizer.betas=[0.5,0.9]", "device=cpu", "threads=1")
    frame = load(tmp_path)
    columns = list(frame)[: list(frame).index("status")]
    assert columns == ["run", "loss", "betas.0", "penalty", "interval", "tags"]
    assert list(frame["loss"]) == ["hinge", "non_saturating"]
    assert list(frame["penalty"]) == ["r1", "none"]
    assert list(frame["betas.0"]) == [0.0, 0.5]
    assert list(frame["tags"]) == ['["first"]', "[]"]


def test_a_learning_rate_that_follows_another_is_no_column(tmp_path: Path) -> None:
    for lr in ("1e-3", "1e-4"):
        make_run(tmp_path / "same" / lr, f"optimizer.lr={lr}")
        make_run(tmp_path / "own" / lr, f"optimizer.lr={lr}", "discriminator_optimizer.lr=0.001")
    assert "lr" in load(tmp_path / "same")
    assert "discriminator_optimizer.lr" in load(tmp_path)
    assert "optimizer.lr" in load(tmp_path)


def test_runs_are_found_at_any_depth_and_copies_of_conf_are_not_runs(tmp_path: Path) -> None:
    make_run(tmp_path / "2026" / "sweep" / "x=1")
    make_run(tmp_path / "2026" / "other" / "x=1")
    (tmp_path / "2026" / "sweep" / "sweep.json").write_text("{}")
    make_run(tmp_path / "2026" / "sweep" / "conf" / "0")
    frame = load(tmp_path, tmp_path / "2026" / "sweep")
    assert list(frame["run"]) == ["other/x=1", "sweep/x=1"]


def test_no_runs_are_told_with_where_and_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no runs found in .* config\.yaml and overrides\.yaml"):
        load(tmp_path)
    with pytest.raises(UserError, match="nowhere: does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run directory"):
        history(tmp_path)


def test_states_of_runs_without_a_result(tmp_path: Path) -> None:
    make_run(tmp_path / "killed", status=None)
    make_run(tmp_path / "going on", status=None, points=2)
    make_run(tmp_path / "again", status="interrupted", points=2)
    make_run(tmp_path / "stopped", status="interrupted")
    make_run(tmp_path / "finished")
    locks = [FileLock(tmp_path / name / ".lock") for name in ("going on", "again", "finished")]
    for lock in locks:
        lock.acquire()
    with (tmp_path / "again" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record(300, 0.25)) + "\n")
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
def test_damaged_metrics_lose_what_is_damaged_and_no_more(
    tmp_path: Path, damage: Any, points: int
) -> None:
    run = make_run(tmp_path / "run", status=None)
    file = run / "metrics.jsonl"
    file.write_text(damage(file.read_text()))
    assert len(history(run)) == points
    assert load(run)["steps"].tolist() == [100 * (points if "\0" not in file.read_text() else 6)]


def test_results_of_other_versions_and_halves_of_them_are_read(tmp_path: Path) -> None:
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


def test_later_measurements_are_columns(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "metrics-fast.json").write_text('{"values": {"lenet_fid": 4.5}}')
    (run / "metrics-bad.json").write_text('{"values": 3')
    assert load(run)["fast/lenet_fid"].tolist() == [4.5]


def test_unchanged_runs_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: Path
) -> None:
    shutil.copytree(sweep, tmp_path / "sweep")
    read: list[str] = []

    def counted(path: Path, *arguments: Any) -> Any:
        read.append(path.name)
        return read_run(path, *arguments)

    monkeypatch.setattr(gan.compare.cache, "read_run", counted)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")}
    first = load(tmp_path / "sweep")
    assert len(read) == 12
    assert load(tmp_path / "sweep").equals(first)
    assert len(read) == 12
    changed = tmp_path / "sweep" / "hidden_dim=256,lr=0.001,seed=0"
    with (changed / "metrics.jsonl").open("a") as file:
        file.write("\n")
    shutil.rmtree(tmp_path / "sweep" / "hidden_dim=256,lr=0.001,seed=1")
    assert len(load(tmp_path / "sweep")) == 11
    assert read[12:] == [changed.name]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} == {
        changed / "metrics.jsonl"
    }


@pytest.mark.parametrize("damage", ["garbage", "folder"])
def test_a_damaged_cache_is_no_obstacle(sweep: Path, damage: str) -> None:
    file = gan.compare.cache.cache_file()
    file.parent.mkdir()
    if damage == "garbage":
        file.write_bytes(os.urandom(5000))
    else:
        file.mkdir()
    assert len(load(sweep)) == 12
    assert len(load(sweep)) == 12


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("lr<5e-4 & seed==1", 2),
        ("optimizer.lr < 5e-4 and seed in [0, 2]", 4),
        ("not (status == 'completed')", 1),
        ("best/sliced_wasserstein/2 < 0.051", 3),
        ("`prob/real` - prob/fake == 0.5", 12),
        ("batch_size == 128 and loss == 'non_saturating'", 12),
        ("0 < lr < 5e-4", 6),
    ],
)
def test_where_chooses_runs(table: Table, condition: str, count: int) -> None:
    assert len(query.where(table, condition).frame) == count


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("lrr < 3", "lrr: no such column; did you mean 'lr'"),
        ("lr = 0.001", "equality is =="),
        ("lr < ", "cannot be read as a condition"),
        ("lr < 'a'", "cannot be compared"),
        ("lr", "is neither true nor false"),
        ("1 < 2", "names no column"),
        ("lr > 1", "holds for none of 12 runs"),
        ("lr.max() < 1", "lr.max: no such column"),
        ("lr(1) < 1", "nothing is called"),
        ("lr[0] < 1", "nothing is called"),
        ("9**9**9 > lr", "nothing is called"),
        ("(lr).__class__ == 1", "no such column"),
        ("lr == @lr", "cannot be read"),
        ("(lambda: lr)() < 1", "no such column"),
        ("__import__('os').getcwd() == lr", "__import__: no such column"),
    ],
)
def test_where_says_what_is_wrong_and_calls_nothing(
    table: Table, condition: str, expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        query.where(table, condition)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"where={condition}: ")


def test_runs_are_sorted_best_first_and_diverged_last(table: Table) -> None:
    frame = query.ordered(table, "sliced_wasserstein").frame
    assert frame["run"].iloc[0] == "hidden_dim=128,lr=0.001,seed=0"
    assert frame["status"].iloc[-1] == "diverged"
    assert query.ordered(table, "-seed").frame["seed"].tolist() == [2] * 4 + [1] * 4 + [0] * 4
    with pytest.raises(UserError, match="sort=sed: sed: no such column; did you mean 'seed'"):
        query.ordered(table, "sed")


def test_the_newest_runs(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        run = make_run(tmp_path / name)
        for file in run.glob("*.*"):
            os.utime(file, (1e9 - age, 1e9 - age))
    assert query.newest(read_table([tmp_path]), 2).frame["run"].tolist() == ["new", "older"]


def test_seeds_are_grouped_and_ties_admitted(table: Table) -> None:
    ranking = rank(table, "seed", "sliced_wasserstein")
    assert list(ranking.frame)[:4] == ["rank", "hidden_dim", "lr", "n"]
    assert ranking.frame["rank"].tolist() == ["1=", "1=", "3", "4"]
    assert ranking.frame["lr"].tolist() == [0.001, 0.0002, 0.0002, 0.001]
    assert ranking.frame["median"].tolist() == pytest.approx([0.1, 0.11, 0.3, 0.5])
    assert ranking.frame["IQR"].tolist()[:3] == pytest.approx([0.02] * 3)
    assert ranking.frame["high"].iloc[-1] == np.inf
    assert ranking.few == 0
    seeds = [table.frame["seed"].loc[members].tolist() for members in ranking.members]
    assert seeds == [[0, 1, 2]] * 4


def test_too_few_seeds_are_not_ranked(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    few = query.where(table, "seed < 2 or hidden_dim == 256")
    ranking = rank(few, "seed", "sliced_wasserstein")
    assert ranking.frame["rank"].tolist() == ["", "", "1", "2"]
    assert ranking.frame["n"].tolist() == [2, 2, 3, 3]
    print_ranking(ranking, "table")
    said = capsys.readouterr().out
    assert "2 of 4 groups not ranked: too few values of seed, fewer than 3 finished runs" in said


def test_unfinished_runs_do_not_count(tmp_path: Path) -> None:
    for seed, status in enumerate(["completed", "failed", None, "completed", "pruned"]):
        make_run(tmp_path / str(seed), f"seed={seed}", status=status, value=0.1)
    (row,) = rank(read_table([tmp_path]), "seed", "sliced_wasserstein").frame.to_dict("records")
    assert (row["n"], row["missing"], row["rank"]) == (3, 2, "1")


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("sed", "did you mean 'seed'"),
        ("batch_size", "runs do not differ in batch_size"),
        ("status", "runs differ in hidden_dim, lr, seed"),
    ],
)
def test_grouping_by_what_does_not_differ(table: Table, over: str, expected: str) -> None:
    with pytest.raises(UserError, match=f"group={over}: .*{expected}"):
        rank(table, over, "sliced_wasserstein")


def test_interval_of_a_median_against_its_distribution() -> None:
    """Of n values, a resample's median is at most the k-th where more than half of n draws hit
    one of k: for n = 5 and k = 1 with probability 0.058; for n = 9, 0.001 and 0.036. Of the
    distribution of medians, 0.025 are cut off at each end."""
    assert interval(np.arange(5.0)) == (0.0, 4.0)
    assert interval(np.arange(9.0)) == (1.0, 7.0)
    wide = np.random.default_rng(1).normal(size=400)
    low, high = interval(wide)
    # The standard error of a normal sample's median is 1.2533 / sqrt(n).
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.35)
    assert low < np.median(wide) < high


def test_summaries_agree_with_numpy_and_allow_infinity() -> None:
    values = [3.0, 1.0, 4.0, 1.5]
    found = summary(values)
    first, middle, third = np.percentile(values, [25, 50, 75])
    assert (found["median"], found["IQR"]) == pytest.approx((middle, third - first))
    found = summary([-np.inf, -np.inf, -np.inf, 1.0, 2.0])
    assert (found["median"], found["IQR"]) == (-np.inf, np.inf)
    assert not any(np.isnan(list(found.values())))
    assert all(np.isnan(list(summary([]).values())))


def test_ranks_of_intervals() -> None:
    low, high = [0.0, 0.5, 2.0, np.nan, 9.0], [1.0, 1.5, 3.0, np.nan, 9.5]
    assert ranks(low, high, 1) == ["1=", "1=", "3", "", "4"]
    assert ranks(low, high, -1) == ["3=", "3=", "2", "", "1"]


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex", "table"])
def test_formats_can_be_read_back(
    sweep: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "a|b_\x1b[31m", "notes='50% | _x_'", value=1e-7)
    make_run(tmp_path / "runs" / "c")
    print_runs(read_table([tmp_path / "runs"]), form)
    text = capsys.readouterr().out
    if form == "csv":
        assert pd.read_csv(io.StringIO(text))["sliced_wasserstein"].tolist() == [1e-7, 0.5]
    elif form == "json":
        assert json.loads(text)[0]["sliced_wasserstein"] == 1e-7
        assert json.loads(text)[0]["error"] is None
    elif form == "markdown":
        assert "50% \\| _x_" in text
        rows = [line.replace("\\|", "").count("|") for line in text.splitlines()]
        assert set(rows) == {rows[0]}
    elif form == "latex":
        assert r"50\% | \_x\_" in text
    else:
        assert "2 runs: 2 completed" in text
    assert ("\x1b" in text) == (form == "csv")


def test_unknown_formats_are_told(table: Table) -> None:
    with pytest.raises(UserError, match="did you mean 'latex'"):
        print_runs(table, "latx")
