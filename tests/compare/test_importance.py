"""The importance of keys agrees with the truth, and is not given for too few runs."""

from pathlib import Path

import pytest
from fake_runs import make_run

from gan.compare.frame import Table, read_table
from gan.compare.importance import importance
from gan.compare.page import page_data


def make_table_of(folder: Path, runs: int) -> Table:
    """Make runs in which the learning rate decides nearly everything, the width a little and the
    seed nothing."""
    for number in range(runs):
        rate, width, seed = 1e-4 * (1 + number % 4), 64 * (1 + number // 4 % 2), number // 8
        value = 0.1 * (number % 4) + 0.02 * (number // 4 % 2)
        overrides = (f"optimizer.lr={rate}", f"model.hidden_dim={width}", f"seed={seed}")
        make_run(folder / f"run{number}", *overrides, value=0.5 + value)
    return read_table([folder])


def test_the_most_important_key_is_first_and_the_seed_is_last(tmp_path: Path) -> None:
    table = make_table_of(tmp_path, 48)
    result = importance(table)
    assert result is not None
    assert [key for key, _, _ in result.keys] == ["lr", "hidden_dim", "seed"]
    means = [mean for _, mean, _ in result.keys]
    assert means[0] > 5 * means[1] > 0
    assert abs(means[2]) < 0.05
    assert result.score > 0.9
    assert importance(table) == result
    assert page_data(table, "")["importance"] == {"score": result.score, "keys": result.keys}


def test_the_order_is_the_same_if_higher_values_are_better(tmp_path: Path) -> None:
    table = make_table_of(tmp_path, 24)
    result = importance(table)
    table.frame["coverage"] = -table.frame[table.objective]
    table.objective = "coverage"
    other = importance(table)
    assert result is not None
    assert other is not None
    assert [key for key, _, _ in other.keys] == [key for key, _, _ in result.keys]


@pytest.mark.parametrize("runs", [4, 19])
def test_too_few_runs_have_no_importance(tmp_path: Path, runs: int) -> None:
    table = make_table_of(tmp_path, runs)
    assert importance(table) is None
    assert page_data(table, "")["importance"] is None
