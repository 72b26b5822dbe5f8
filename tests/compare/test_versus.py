"""Two groups of runs are compared by name, over the seeds that they share."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_runs import make_run
from runs import SCRIPTS
from scipy import stats

from gan.compare.frame import Table, read_table
from gan.compare.versus import Versus, versus
from gan.errors import UserError

SWD = "sliced_wasserstein"
FIRST = [0.10, 0.12, 0.11, 0.13, 0.09, 0.14, 0.15, 0.10]
SECOND = [0.12, 0.13, 0.14, 0.13, 0.12, 0.15, 0.19, 0.18]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two learning rates, which two recipes might set, with eight seeds each."""
    folder = tmp_path_factory.mktemp("versus") / "sweep"
    for lr, recipe, values in (("1e-4", "lab", FIRST), ("2e-4", "wgan_gp", SECOND)):
        for seed, value in enumerate(values):
            path = folder / recipe / str(seed)
            make_run(path, f"optimizer.lr={lr}", f"seed={seed}", value=value)
            text = f"- recipe={recipe}\n- optimizer.lr={lr}\n- seed={seed}\n"
            (path / "overrides.yaml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def table(sweep: Path) -> Table:
    return read_table([sweep])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lr=1e-4", "lr=0.0002"),
        ("optimizer.lr=0.0001", "lr=2e-4"),
        ("recipe=lab", "recipe=wgan_gp"),
        ("lab", "wgan_gp"),
        ("0.0001", "2e-4"),
    ],
)
def test_groups_have_the_names_of_their_values(table: Table, first: str, second: str) -> None:
    outcome = versus(table, ([first], [second]), SWD).as_dict()
    assert (outcome["first"], outcome["second"]) == (first, second)
    assert (outcome["n_first"], outcome["n_second"], outcome["pairs"]) == (8, 8, 8)


def test_null_and_tags_are_names_of_groups(tmp_path: Path) -> None:
    for seed in range(3):
        for name, half_life in (("a", "null"), ("b", "20000")):
            words = f"trainer.ema_half_life={half_life}", f"tags=[{name},all]", f"seed={seed}"
            run = make_run(tmp_path / f"{name}{seed}", *words)
            (run / "overrides.yaml").write_text("[]")
    table = read_table([tmp_path])
    for first, second in (("ema_half_life=null", "ema_half_life=20000"), ("tags=a", "tags=b")):
        outcome = versus(table, ([first], [second]), SWD)
        assert [len(values) for values in outcome.values] == [3, 3]


def test_directories_are_groups_too(table: Table, sweep: Path) -> None:
    outcome = versus(table, ([str(sweep / "lab")], [str(sweep / "wgan_gp")]), SWD)
    assert [len(values) for values in outcome.values] == [8, 8]
    assert outcome.pair_keys == ["seed"]


def test_pairs_of_one_seed_are_tested_by_wilcoxon(table: Table) -> None:
    outcome = versus(table, (["lab"], ["wgan_gp"]), SWD).as_dict()
    differences = np.array(FIRST) - np.array(SECOND)
    assert outcome["test"] == "Wilcoxon"
    assert outcome["p_value"] == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert outcome["median_difference"] == pytest.approx(np.median(differences))
    low, high = np.sort(differences)[[0, 7]]
    assert (outcome["low"], outcome["high"]) == pytest.approx((low, high))
    assert outcome["coverage"] == pytest.approx(1 - 2 / 2**8)
    wins = [(a < b) + 0.5 * (a == b) for a in FIRST for b in SECOND]
    assert outcome["probability_of_improvement"] == pytest.approx(np.mean(wins))


def test_too_few_pairs_are_compared_without_pairs_and_told_so(tmp_path: Path) -> None:
    for seed in range(5):
        make_run(tmp_path / f"a{seed}", "optimizer.lr=1e-4", f"seed={seed}", value=0.1 + seed / 99)
        make_run(tmp_path / f"b{seed}", "optimizer.lr=2e-4", f"seed={seed}", value=0.3 + seed / 99)
    outcome = versus(read_table([tmp_path]), (["lr=1e-4"], ["lr=2e-4"]), SWD)
    assert outcome.as_dict()["p_value"] == pytest.approx(2 / 252)
    *_, last = outcome.sentences()
    assert "a paired one needs 6 pairs" in last
    assert last.endswith("lr=1e-4 is better")
    few = read_table([tmp_path / f"{side}{seed}" for side in "ab" for seed in range(3)])
    *_, last = versus(few, (["lr=1e-4"], ["lr=2e-4"]), SWD).sentences()
    assert "so few runs cannot tell any two apart" in last


def test_a_diverged_run_is_the_worst_and_an_unfinished_one_is_left_out(tmp_path: Path) -> None:
    for seed, status in enumerate(["completed"] * 5 + ["diverged", "failed"]):
        make_run(tmp_path / f"a{seed}", "optimizer.lr=1e-4", f"seed={seed}", value=0.1)
        run = tmp_path / f"b{seed}"
        make_run(run, "optimizer.lr=2e-4", f"seed={seed}", value=0.2, status=status)
    outcome = versus(read_table([tmp_path]), (["lr=1e-4"], ["lr=2e-4"]), SWD)
    assert outcome.values[1].tolist() == [0.2] * 5 + [np.inf]
    assert outcome.missing == 1
    assert outcome.differences.tolist() == pytest.approx([-0.1] * 5 + [-np.inf])
    assert outcome.as_dict()["p_value"] == pytest.approx(2 / 2**6)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("lr=1e-3", "lr=1e-4", "lr=1e-3: matches none of 16 runs"),
        ("recipe=r1", "lab", "recipe=r1: matches none of 16 runs"),
        ("lrr=1", "lab", "lrr: no such column; did you mean 'lr'"),
        ("lab", "seed=1", "lab versus seed=1: both hold"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(
    table: Table, first: str, second: str, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        versus(table, ([first], [second]), SWD)


@pytest.mark.parametrize("words", [["lab", "versus", "wgan_gp"], ["recipe=lab", "recipe=wgan_gp"]])
def test_compare_says_which_of_two_recipes_is_better(sweep: Path, words: list[str]) -> None:
    command = [sys.executable, str(SCRIPTS / "compare.py"), str(sweep), *words, "format=table"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "8 pairs with the same seed: median difference" in done.stdout
    assert "p = " in done.stdout


def test_winner_is_that_of_the_paired_test(tmp_path: Path) -> None:
    """Seeds that only one side has do not turn the outcome around."""
    for seed in range(6):
        make_run(tmp_path / f"a{seed}", "optimizer.lr=1e-4", f"seed={seed}", value=1.0 + seed)
        make_run(tmp_path / f"b{seed}", "optimizer.lr=2e-4", f"seed={seed}", value=1.1 + seed)
    for seed in range(6, 16):
        make_run(tmp_path / f"a{seed}", "optimizer.lr=1e-4", f"seed={seed}", value=90.0 + seed)
    outcome = versus(read_table([tmp_path]), (["lr=1e-4"], ["lr=2e-4"]), SWD)
    assert outcome.is_paired
    assert outcome.as_dict()["probability_of_improvement"] < 0.5
    assert outcome.sentences()[-1].endswith("lr=1e-4 is better")


def test_median_of_runs_that_diverged_on_both_sides_is_a_number_or_infinite() -> None:
    differences = np.array([np.inf, -np.inf])
    facts = Versus(SWD, ("a", "b"), (differences, differences), 0, [], differences).as_dict()
    assert not np.isnan(facts["median_difference"])
