"""Numbers that may not be compared have columns of their own and are ranked apart."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_runs import make_run
from runs import SCRIPTS

from gan.compare import query
from gan.compare.clean import removals
from gan.compare.figures import write_figures
from gan.compare.frame import Table, load, read_table
from gan.compare.importance import importance
from gan.compare.page import page_data
from gan.compare.rank import rank
from gan.compare.repeat import best_run
from gan.errors import UserError

SWD = "sliced_wasserstein"
FACTS = {"weights": "generator", "samples": 600, "real": 600, "split": "test", "real_hash": "a1"}
SMALL, LARGE = f"{SWD}[samples=600]", f"{SWD}[samples=1000]"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Three runs measured with 600 samples and two, which look better, with 1,000."""
    for seed in range(3):
        small = FACTS | {"samples": 600}
        make_run(tmp_path / f"a{seed}", f"seed={seed}", value=0.5 + seed / 10, measured=small)
    for seed in range(2):
        large = FACTS | {"samples": 1000}
        make_run(tmp_path / f"b{seed}", f"seed={9 + seed}", value=0.1, measured=large)
    return read_table([tmp_path])


def test_numbers_of_samples_have_columns_of_their_own(table: Table) -> None:
    assert SWD not in table.frame
    assert table.objective == SMALL
    columns = [SMALL, LARGE, f"best/{SMALL}", f"best/{LARGE}"]
    assert table.frame[columns].notna().sum().tolist() == [3, 2, 3, 2]
    (note,) = table.notes
    assert note == (
        f"{SWD}: measured in ways that do not compare, each with a column of its own: "
        "samples=600 (3 runs), samples=1000 (2 runs)"
    )


def test_ranking_over_several_ways_is_refused_in_one_line(table: Table) -> None:
    for sort in (None, SWD, f"-{SWD}", "seed"):
        with pytest.raises(UserError, match="measured in 2 ways that do not compare; choose one"):
            query.ranking_metric(table, sort)
    with pytest.raises(UserError, match="measured in 2 ways"):
        query.where(table, f"{SWD} < 1")
    with pytest.raises(UserError, match="measured in 2 ways"):
        rank(table, "seed", SWD)


def test_one_way_can_be_chosen_by_its_column_or_by_a_condition(table: Table) -> None:
    assert query.ranking_metric(table, LARGE) == LARGE
    few = query.where(table, "seed < 5")
    assert query.ranking_metric(few, None) == SMALL
    assert not few.notes
    assert rank(few, "seed", SWD).frame["n"].tolist() == [3]


def test_statistics_of_one_way_have_no_runs_of_another(table: Table, tmp_path: Path) -> None:
    (row,) = rank(table, "seed", LARGE).frame.to_dict("records")
    assert (row["n"], row["missing"], row["median"]) == (2, 0, 0.1)
    assert Path(best_run(query.ordered(table, SMALL), SMALL).path).name == "a0"
    data = page_data(table, "")
    assert data["objective"] == SMALL
    assert [row[1] for row in data["ranking"]["rows"]] == [3]
    assert [{*curves} & {SMALL, LARGE} for curves in data["curves"]["runs"]] == [{SMALL}] * 3 + (
        [{LARGE}] * 2
    )
    assert table.notes[0] in data["notes"]
    assert write_figures(table, tmp_path / "figures", LARGE)
    assert importance(table) is None


def test_runs_of_each_way_are_sorted_by_themselves(table: Table) -> None:
    runs = query.ordered(table, f"-{SWD}").frame["run"].tolist()
    assert runs == ["a2", "a1", "a0", "b0", "b1"]


def test_cleaning_keeps_the_best_runs_of_each_way(table: Table) -> None:
    for run in table.runs:
        (Path(run.path) / "checkpoints").mkdir()
        (Path(run.path) / "checkpoints" / "step-1.pt").touch()
    removed = {path.run_dir.name for path in removals(table, SWD, keep=1, older=0)}
    assert removed == {"a1", "a2", "b1"}


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ({"samples": 600}, {"samples": 1000}, ["samples=600", "samples=1000"]),
        ({}, {"samples": 99, "real": 99, "real_hash": "b2"}, ["samples=600", "samples=99"]),
        ({"split": "train"}, {"split": "test"}, ["split=train", "split=test"]),
        ({"real": 500}, {}, ["real=500", "real=600"]),
        ({"real_hash": "abc"}, {"real_hash": "def"}, ["hash=abc", "hash=def"]),
        (
            {"features": {"name": "lenet/mnist", "sha256": "1"}},
            {"features": {"name": "lenet/mnist", "sha256": "2"}},
            ["features=lenet/mnist 1", "features=lenet/mnist 2"],
        ),
        ({"samples": 50, "real": 50}, {}, ["samples=50", "samples=600"]),
        ({}, {}, []),
    ],
)
def test_facts_of_the_training_that_differ_are_told(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], labels: list[str]
) -> None:
    for seed, facts in enumerate((first, second)):
        run = make_run(tmp_path / str(seed), f"seed={seed}", measured=FACTS | facts)
        lines = (run / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1]) | {"recall": 0.5}
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"final": last}))
    columns = [f"recall[{label}]" for label in labels] or ["recall"]
    assert list(read_table([tmp_path]).ways_of("recall")) == columns


def test_features_matter_only_to_metrics_that_use_them(tmp_path: Path) -> None:
    for seed in range(2):
        features = {"features": {"name": "lenet/mnist", "sha256": str(seed)}}
        make_run(tmp_path / str(seed), f"seed={seed}", measured=FACTS | features)
    assert list(read_table([tmp_path]).ways_of(SWD)) == [SWD]


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({"samples": 1000}, "samples=1000"),
        ({"split": "train"}, "split=train"),
        ({"weights": "generator"}, "weights=generator"),
        ({"step": 100}, "step=100"),
        ({"truncation": 0.5}, "truncation=0.5"),
        ({"standing": 16}, "standing=16"),
    ],
)
def test_later_measurements_of_other_kinds_have_columns_of_their_own(
    tmp_path: Path, facts: dict[str, Any], label: str
) -> None:
    usual = FACTS | {"step": 600, "weights": "average", "values": {SWD: 0.2}}
    for seed, changed in enumerate(({}, {}, facts)):
        run = make_run(tmp_path / str(seed), f"seed={seed}", "trainer.ema_half_life=100")
        (run / "metrics-late.json").write_text(json.dumps(usual | changed))
    frame = load(tmp_path)
    assert frame[f"late/{SWD}[{label}]"].notna().tolist() == [False, False, True]
    assert f"late/{SWD}" not in frame


def test_a_sweep_over_the_average_of_weights_can_be_ranked_and_the_table_says_so(
    tmp_path: Path,
) -> None:
    for half_life in (0, 100):
        weights = "average" if half_life else "generator"
        for seed in range(3):
            make_run(
                tmp_path / f"{half_life} {seed}",
                f"seed={seed}",
                f"trainer.ema_half_life={half_life or 'null'}",
                measured=FACTS | {"weights": weights},
            )
    table = read_table([tmp_path])
    assert rank(table, "seed", SWD).frame["n"].tolist() == [3, 3]
    assert table.notes == [
        "metrics are of averaged weights in 3 of 6 runs, and of the generator's own weights in the "
        "others, which keep no average"
    ]


def test_metrics_on_other_data_sets_have_columns_of_their_own(tmp_path: Path) -> None:
    for data in ("digits", "mnist5k"):
        make_run(tmp_path / data, f"data={data}")
    assert list(read_table([tmp_path]).ways_of(SWD)) == [
        f"{SWD}[data=digits]",
        f"{SWD}[data=mnist5k]",
    ]


def test_runs_that_go_on_share_the_column_of_runs_with_the_same_settings(tmp_path: Path) -> None:
    make_run(tmp_path / "a", measured=FACTS)
    make_run(tmp_path / "b", "seed=1", status=None, points=2)
    assert list(read_table([tmp_path]).ways_of(SWD)) == [SWD]


def test_a_diverged_run_is_the_worst_of_those_measured_like_it_alone(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"a{seed}", f"seed={seed}", "metrics.samples=600")
        make_run(tmp_path / f"b{seed}", f"seed={seed}", "metrics.samples=1000")
    make_run(tmp_path / "b3", "seed=3", "metrics.samples=1000", status="diverged", points=0)
    table = read_table([tmp_path])
    assert rank(table, "seed", SMALL).frame["n"].tolist() == [3]
    assert rank(table, "seed", LARGE).frame["n"].tolist() == [4]


def test_compare_refuses_to_rank_and_still_shows_the_table(table: Table, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPTS / "compare.py"), str(tmp_path)]
    for option in ("group=seed", "best", "png=figures"):
        done = subprocess.run([*command, option], capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "measured in 2 ways that do not compare; choose one of" in done.stderr
    done = subprocess.run([*command, "format=markdown"], capture_output=True, text=True)
    assert done.returncode == 0
    assert SMALL in done.stdout
    assert "note: sliced_wasserstein: measured in ways that do not compare" in done.stderr
