"""Points are ranked by what their seeds give."""

from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_run, make_sweep

from gan.compare import query
from gan.compare.frame import Table, read_table
from gan.compare.rank import interval, rank, ranks, summary
from gan.compare.table import print_ranking
from gan.errors import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read_table([make_sweep(tmp_path_factory.mktemp("rank") / "sweep")])


def test_seeds_are_grouped_and_overlapping_groups_share_a_rank(table: Table) -> None:
    ranking = rank(table, "seed", "sliced_wasserstein")
    assert list(ranking.frame)[:4] == ["rank", "hidden_dim", "lr", "n"]
    assert ranking.frame["rank"].tolist() == ["1=", "1=", "3", "4"]
    assert ranking.frame["lr"].tolist() == [0.001, 0.0002, 0.0002, 0.001]
    assert ranking.frame["median"].tolist() == pytest.approx([0.1, 0.11, 0.3, 0.5])
    assert ranking.frame["IQR"].tolist()[:3] == pytest.approx([0.02] * 3)
    assert ranking.frame["high"].iloc[-1] == np.inf
    assert ranking.unranked == 0
    seeds = [table.frame["seed"].loc[members].tolist() for members in ranking.members]
    assert seeds == [[0, 1, 2]] * 4


def test_groups_with_too_few_seeds_are_not_ranked(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    few = query.where(table, "seed < 2 or hidden_dim == 256")
    ranking = rank(few, "seed", "sliced_wasserstein")
    assert ranking.frame["rank"].tolist() == ["", "", "1", "2"]
    assert ranking.frame["n"].tolist() == [2, 2, 3, 3]
    print_ranking(ranking, "table")
    printed = capsys.readouterr().out
    assert "2 of 4 groups not ranked: too few values of seed, fewer than 3 finished runs" in printed


def test_unfinished_runs_count_as_missing(tmp_path: Path) -> None:
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
def test_grouping_by_what_does_not_differ_is_refused(
    table: Table, over: str, expected: str
) -> None:
    with pytest.raises(UserError, match=f"group={over}: .*{expected}"):
        rank(table, over, "sliced_wasserstein")


def test_the_interval_of_a_median_agrees_with_its_distribution() -> None:
    """The median of a resample of n values is at most the k-th value if more than half of n draws
    hit one of the first k. The probability is 0.058 for n = 5 and k = 1. For n = 9 it is 0.001 for
    k = 1 and 0.036 for k = 2. The interval cuts 0.025 of the distribution off at each end."""
    assert interval(np.arange(5.0)) == (0.0, 4.0)
    assert interval(np.arange(9.0)) == (1.0, 7.0)
    wide = np.random.default_rng(1).normal(size=400)
    low, high = interval(wide)
    # The standard error of a normal sample's median is 1.2533 / sqrt(n).
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.35)
    assert low < np.median(wide) < high


def test_summaries_agree_with_numpy_and_allow_infinite_values() -> None:
    values = [3.0, 1.0, 4.0, 1.5]
    statistics = summary(values)
    first, middle, third = np.percentile(values, [25, 50, 75])
    assert (statistics["median"], statistics["IQR"]) == pytest.approx((middle, third - first))
    statistics = summary([-np.inf, -np.inf, -np.inf, 1.0, 2.0])
    assert (statistics["median"], statistics["IQR"]) == (-np.inf, np.inf)
    assert not any(np.isnan(list(statistics.values())))
    assert all(np.isnan(list(summary([]).values())))


def test_intervals_that_overlap_share_a_rank_in_both_directions() -> None:
    low, high = [0.0, 0.5, 2.0, np.nan, 9.0], [1.0, 1.5, 3.0, np.nan, 9.5]
    assert ranks(low, high, 1) == ["1=", "1=", "3", "", "4"]
    assert ranks(low, high, -1) == ["3=", "3=", "2", "", "1"]
