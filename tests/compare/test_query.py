"""Runs are chosen and sorted by expressions over their columns."""

import os
from pathlib import Path

import pytest
from fake_runs import make_run, make_sweep

from gan.compare import query
from gan.compare.frame import Table, read_table
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


def test_newest_chooses_the_runs_that_changed_last(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "older", "oldest")):
        run = make_run(tmp_path / name)
        for file in run.glob("*.*"):
            os.utime(file, (1e9 - age, 1e9 - age))
    assert query.newest(read_table([tmp_path]), 2).frame["run"].tolist() == ["new", "older"]
