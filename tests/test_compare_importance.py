"""Which keys matter: found where it is known, and not claimed of too few runs."""

from pathlib import Path

import pytest
from made import make_run

from gan.compare.frame import Table, read_table
from gan.compare.importance import importance
from gan.compare.page import page_data


def sweep_of(folder: Path, runs: int) -> Table:
    """The learning rate decides nearly all, the width a little, the seed nothing."""
    for number in range(runs):
        rate, width, seed = 1e-4 * (1 + number % 4), 64 * (1 + number // 4 % 2), number // 8
        value = 0.1 * (number % 4) + 0.02 * (number // 4 % 2)
        overrides = (f"optimizer.lr={rate}", f"model.hidden_dim={width}", f"seed={seed}")
        make_run(folder / f"run{number}", *overrides, value=0.5 + value)
    return read_table([folder])


def test_what_decides_comes_first_and_what_does_not_last(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, 48)
    found = importance(table)
    assert found is not None
    assert [key for key, _, _ in found.keys] == ["lr", "hidden_dim", "seed"]
    means = [mean for _, mean, _ in found.keys]
    assert means[0] > 5 * means[1] > 0
    assert abs(means[2]) < 0.05
    assert found.score > 0.9
    assert importance(table) == found
    assert page_data(table, "")["importance"] == {"score": found.score, "keys": found.keys}


def test_the_best_being_the_highest_changes_nothing(tmp_path: Path) -> None:
    table = sweep_of(tmp_path, 24)
    found = importance(table)
    table.frame["coverage"] = -table.frame[table.objective]
    table.objective = "coverage"
    other = importance(table)
    assert found is not None
    assert other is not None
    assert [key for key, _, _ in other.keys] == [key for key, _, _ in found.keys]


@pytest.mark.parametrize("runs", [4, 19])
def test_too_few_runs_say_nothing(tmp_path: Path, runs: int) -> None:
    table = sweep_of(tmp_path, runs)
    assert importance(table) is None
    assert page_data(table, "")["importance"] is None
