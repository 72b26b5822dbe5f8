"""Points are ranked by what their seeds give."""

from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_run, make_sweep

from gan.compare import query
from gan.compare.frame import Table, read_table
from gan.compare.inference import told_apart
from gan.compare.rank import best_first, rank, ranks
from gan.compare.table import print_ranking
from gan.errors import UserError


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return read_table([make_sweep(tmp_path_factory.mktemp("rank") / "sweep", seeds=5)])


def test_groups_that_seeds_cannot_tell_apart_share_a_rank(table: Table) -> None:
    ranking = rank(table, "seed", "sliced_wasserstein")
    assert list(ranking.frame)[:4] == ["rank", "hidden_dim", "lr", "n"]
    assert ranking.frame["rank"].tolist() == ["1=", "1=", "3", "4"]
    assert ranking.frame["lr"].tolist() == [0.001, 0.0002, 0.0002, 0.001]
    assert ranking.frame["median"].tolist() == pytest.approx([0.1, 0.11, 0.3, 0.5])
    assert ranking.frame["IQR"].tolist()[:3] == pytest.approx([0.02] * 3)
    assert ranking.frame["high"].iloc[-1] == np.inf
    assert "not ranked" not in " ".join(ranking.notes)
    seeds = [table.frame["seed"].loc[members].tolist() for members in ranking.members]
    assert seeds == [[0, 1, 2, 3, 4]] * 4


def test_an_interval_says_how_much_it_covers_and_is_never_called_95_percent(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    for count, coverage in ((3, "(75%)"), (4, "(87.5%)"), (5, "(93.8%)")):
        print_ranking(
            rank(query.where(table, f"seed < {count}"), "seed", "sliced_wasserstein"), "table"
        )
        printed = capsys.readouterr().out
        assert printed.count(coverage) == 4
        assert "95%" not in printed


def test_three_seeds_cannot_tell_any_groups_apart_and_the_table_says_so(table: Table) -> None:
    ranking = rank(query.where(table, "seed < 3"), "seed", "sliced_wasserstein")
    assert ranking.frame["rank"].tolist() == ["1=", "1=", "1=", "1="]
    assert "no two groups can be told apart with so few runs" in " ".join(ranking.notes)


def test_groups_with_too_few_seeds_are_not_ranked(
    table: Table, capsys: pytest.CaptureFixture[str]
) -> None:
    few = query.where(table, "seed < 2 or hidden_dim == 256")
    ranking = rank(few, "seed", "sliced_wasserstein")
    assert ranking.frame["rank"].tolist() == ["", "", "1", "2"]
    assert ranking.frame["n"].tolist() == [2, 2, 5, 5]
    print_ranking(ranking, "table")
    printed = capsys.readouterr().out
    assert "2 of 4 groups not ranked: too few values of seed, fewer than 3 finished runs" in printed


def test_unfinished_runs_count_as_missing(tmp_path: Path) -> None:
    statuses = ["completed", "failed", None, "completed", "pruned", "completed"]
    for seed, status in enumerate(statuses):
        # The value of a pruned run is that of an early step.
        value = 0.01 if status == "pruned" else 0.1
        make_run(tmp_path / str(seed), f"seed={seed}", status=status, value=value)
    (row,) = rank(read_table([tmp_path]), "seed", "sliced_wasserstein").frame.to_dict("records")
    assert (row["n"], row["missing"], row["rank"], row["median"]) == (3, 3, "1", 0.1)


def test_groups_may_be_named_by_keys_and_differ_in_an_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        words = f"penalty.interval={1 + number // 3}", f"seed={number % 3}"
        make_run(tmp_path / str(number), *words, value=0.1 + number)
    table = read_table([tmp_path])
    ranking = rank(table, "seed", "sliced_wasserstein")
    print_ranking(ranking, "table")
    assert "penalty.interval" in capsys.readouterr().out
    ranking = rank(table, "seed,penalty.interval", "sliced_wasserstein")
    assert ranking.frame["n"].tolist() == [6]


def test_higher_values_are_compared_by_their_logarithms_too() -> None:
    generator = np.random.default_rng(0)
    groups = [generator.lognormal(mean, 0.5, 8) for mean in (0, 1, 2, 3)]
    lower = told_apart(groups)
    assert np.array_equal(told_apart([-1 / group for group in groups]), lower)
    assert lower.any()


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


def test_a_rank_counts_the_groups_that_are_better_beyond_chance() -> None:
    noise = np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    groups = [1.0 * noise, 1.02 * noise, 9 * noise, np.array([1.0, 2.0]), 99 * noise]
    assert ranks(groups) == ["1=", "1=", "3", "", "4"]
    assert ranks([-values for values in groups]) == ["3=", "3=", "2", "", "1"]
    assert ranks([np.full(5, np.inf), noise, np.full(5, np.inf)]) == ["2=", "1", "2="]
    assert ranks([noise]) == ["1"]
    assert ranks([]) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("trainer.flip", ("false", "true")),
        ("trainer.augment_p", ("1.0", "0.5")),
        ("trainer.patience", ("null", "3")),
        ("trainer.consistency", ("[]", "[flip]")),
    ],
)
def test_runs_that_differ_from_the_value_of_a_key_that_came_later_are_two_groups(
    key: str, values: tuple[str, str], tmp_path: Path
) -> None:
    """A stored configuration may leave such a key out where it has this value."""
    for number, value in enumerate(values):
        for seed in range(3):
            words = (f"{key}={value}", f"seed={seed}")
            make_run(tmp_path / f"{number}-{seed}", *words, value=number + 0.1 * seed)
    table = read_table([tmp_path])
    name = key.rpartition(".")[2]
    ranking = rank(table, "seed", "sliced_wasserstein")
    assert ranking.frame["n"].tolist() == [3, 3]
    assert ranking.frame["median"].tolist() == pytest.approx([0.1, 1.1])
    assert table.frame[name].notna().sum() >= 3
    assert len(table.column(key)) == 6


@pytest.mark.parametrize("name", ["rank", "n", "low", "median"])
def test_key_with_the_name_of_a_statistic_keeps_its_full_name(name: str, tmp_path: Path) -> None:
    for value in (4, 8):
        for seed in range(3):
            path = make_run(tmp_path / f"{value}-{seed}", f"seed={seed}", value=value + seed)
            config = (path / "config.yaml").read_text()
            (path / "config.yaml").write_text(config + f"mine:\n  {name}: {value}\n")
    table = read_table([tmp_path])
    assert list(table.keys) == [f"mine.{name}", "seed"]
    ranking = rank(table, "seed", "sliced_wasserstein").frame
    assert {f"mine.{name}", name} <= {*ranking}
    assert ranking[f"mine.{name}"].tolist() == [4, 8]
    assert ranking["n"].tolist() == [3, 3]


def test_groups_are_formed_over_several_columns(table: Table) -> None:
    ranking = rank(table, "seed, lr", "sliced_wasserstein")
    assert ranking.frame["n"].tolist() == [10, 10]
    assert "lr" not in ranking.frame
    with pytest.raises(UserError, match="hidden_dim: cannot be ranked by"):
        rank(table, "seed", "hidden_dim")


def test_best_run_is_the_best_by_the_objective_where_a_key_sorts_the_table(tmp_path: Path) -> None:
    for lr, value in (("1e-4", 3.0), ("2e-4", 1.0), ("4e-4", 2.0)):
        make_run(tmp_path / lr, f"optimizer.lr={lr}", value=value)
    table = read_table([tmp_path])
    for sort in (None, "lr", "run", "status"):
        metric, ordered = best_first(table, sort)
        assert metric == "sliced_wasserstein"
        assert ordered.frame["lr"].iloc[0] == 2e-4
    assert best_first(table, "-sliced_wasserstein")[1].frame["lr"].iloc[0] == 1e-4
    for sort in ("path", "changed"):
        with pytest.raises(UserError, match=f"{sort}: cannot be ranked by"):
            best_first(table, sort)
