"""Runs are chosen and sorted by expressions over their columns."""

import os
from pathlib import Path

import pytest
from fake_runs import make_run, make_sweep

from gan.compare import query
from gan.compare.frame import Table, read_table
from gan.compare.query import matching, ordered, where
from gan.compare.rank import rank
from gan.errors import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read_table([make_sweep(tmp_path_factory.mktemp("query") / "sweep")])


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
def test_where_chooses_the_runs_for_which_a_condition_holds(
    table: Table, condition: str, count: int
) -> None:
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
        ("lr(1) < 1", "nothing else"),
        ("lr[0] < 1", "nothing else"),
        ("9**9**9 > lr", "nothing else"),
        ("(lr).__class__ == 1", "no such column"),
        ("lr == @lr", "cannot be read"),
        ("(lambda: lr)() < 1", "no such column"),
        ("__import__('os').getcwd() == lr", "__import__: no such column"),
    ],
)
def test_a_wrong_condition_is_explained_and_cannot_call_anything(
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


def test_chosen_runs_have_their_own_objective_and_copies(tmp_path: Path) -> None:
    for number in range(4):
        make_run(tmp_path / "many" / str(number), f"seed={number}")
    for number, value in enumerate((0.5, 0.7, 0.6)):
        words = ("metrics.samples=300", f"seed={number}")
        make_run(tmp_path / "few" / str(number), *words, value=value)
    for number in range(3):
        make_run(tmp_path / "again" / str(number), *words[:1], f"seed={number}")
    table = read_table([tmp_path])
    assert table.objective == "sliced_wasserstein[samples=300]"
    assert len(table.copies) == 3
    few = where(
        table,
        "metrics.samples == 300 and sliced_wasserstein > 0.55".replace(
            "sliced_wasserstein", "`sliced_wasserstein[samples=300]`"
        ),
    )
    assert few.objective == "sliced_wasserstein[samples=300]"
    assert ordered(few, few.objective).frame[few.objective].tolist() == [0.6, 0.7]
    many = where(table, "metrics.samples != 300")
    assert many.objective == "sliced_wasserstein[samples=2000]"
    # Of runs that repeat others, some count where the others are not asked for.
    again = where(table, f"path in {[run.path for run in table.runs if 'again' in run.path]}")
    assert not again.copies
    assert "copy_of" not in again.frame
    assert rank(again, "seed", again.objective).frame["n"].tolist() == [3]


def test_a_column_has_the_options_of_a_group_also_where_all_runs_share_one(
    tmp_path: Path,
) -> None:
    for seed in range(2):
        words = "model=base", "optimizer=adam", "tags=[paper,two]"
        make_run(tmp_path / str(seed), *words, f"seed={seed}")
    table = read_table([tmp_path])
    assert len(where(table, 'model == "base" and optimizer == "adam"').frame) == 2
    # The rate of the discriminator follows this one.
    assert len(where(table, "lr < 1").frame) == 2
    assert len(where(table, '"paper" in tags and not ("pape" in tags)').frame) == 2
    assert matching(table, '"paper" not in tags').frame.empty


def test_ways_of_a_metric_are_named_where_one_must_be_chosen(tmp_path: Path) -> None:
    for number in range(2):
        words = f"metrics.samples={600 + number}", f"seed={number}"
        make_run(tmp_path / str(number), *words)
    with pytest.raises(UserError, match=r"best/sliced_wasserstein: was measured in 2 ways"):
        where(read_table([tmp_path]), "best/sliced_wasserstein < 1")


def test_newest_chooses_the_runs_that_changed_last(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        run = make_run(tmp_path / name)
        for file in run.glob("*.*"):
            os.utime(file, (1e9 - age, 1e9 - age))
    assert query.newest(read_table([tmp_path]), 2).frame["run"].tolist() == ["new", "older"]
