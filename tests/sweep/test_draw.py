"""Random search: points that follow Hydra's syntax, are spread evenly, and need no Optuna."""

import itertools
import math
import sys
from pathlib import Path

import pytest
from sweep_commands import TINY, compose_sweep

import gan
from gan.errors import UserError
from gan.sweep.draw import random_points
from gan.sweep.space import read_space

LOG_LR = "optimizer.lr=tag(log, interval(1e-5, 1e-2))"
RANDOM = ("hydra/sweeper=random", "hydra.sweeper.n_trials=4")


def points(
    *texts: str, params: dict[str, str] | None = None, count: int = 200, seed: int = 0
) -> list[dict[str, str]]:
    """Return the points of a command line, each as texts by key."""
    _, loader = compose_sweep("hydra/sweeper=random")
    drawn = itertools.islice(random_points(read_space(loader, texts, params or {}), seed), count)
    return [dict(text.split("=", 1) for text in point) for point in drawn]


def test_values_are_those_of_the_space() -> None:
    drawn = points(
        LOG_LR,
        "optimizer.betas.0=interval(0, 0.9)",
        "model.hidden_layers=int(interval(1, 4))",
        "model.hidden_dim=range(64, 257, 64)",
        "loss=minimax,non_saturating",
        "penalty=glob(r*)",
        "seed=3",
        params={"seed": "interval(1, 2)", "trainer.batch_size": "choice(16, 32)"},
    )
    values = {key: {point[key] for point in drawn} for key in drawn[0]}
    assert values["model.hidden_layers"] == {"1", "2", "3", "4"}
    assert values["model.hidden_dim"] == {"64", "128", "192", "256"}
    assert values["loss"] == {"minimax", "non_saturating"}
    assert values["trainer.batch_size"] == {"16", "32"}
    assert values["seed"] == {"3"}
    assert "r1" in values["penalty"]
    rates = [float(point["optimizer.lr"]) for point in drawn]
    assert all(1e-5 <= rate <= 1e-2 for rate in rates)
    # On a logarithmic scale, each power of ten has a third of the values.
    shares = [
        sum(math.floor(math.log10(rate)) == power for rate in rates) for power in (-5, -4, -3)
    ]
    assert all(40 <= share <= 95 for share in shares)
    betas = [float(point["optimizer.betas.0"]) for point in drawn]
    assert 0 <= min(betas) < 0.1
    assert 0.8 < max(betas) <= 0.9


def test_whole_numbers_on_a_logarithmic_scale_stay_in_their_interval() -> None:
    drawn = points("model.hidden_dim=tag(log, int(interval(8, 64)))")
    sizes = [int(point["model.hidden_dim"]) for point in drawn]
    assert min(sizes) >= 8
    assert max(sizes) <= 64
    assert 80 <= sum(size < 23 for size in sizes) <= 120


def test_more_trials_and_more_keys_keep_the_values_of_the_others() -> None:
    few = points(LOG_LR, count=3)
    assert points(LOG_LR, count=9)[:3] == few
    both = points("loss=minimax,hinge", LOG_LR, count=3)
    assert [point["optimizer.lr"] for point in both] == [point["optimizer.lr"] for point in few]
    assert points(LOG_LR, count=3, seed=1) != few


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed=3", "nothing to search over"),
        ("optimizer.lr=interval(2, 1)", "must not end below its start"),
        ("optimizer.lr=tag(log, interval(0, 1))", "must start above 0"),
        ("seed=range(1, 1)", "has no values"),
        ("seed=range(1, 5, 0)", r"seed=range\(1, 5, 0\): cannot be read"),
        ("optimizer.lr=tag(logg, interval(1, 9))", "unknown tag 'logg'; did you mean 'log'"),
        ("seed=tag(log, choice(1, 9))", "the tag log is for an interval"),
    ],
)
def test_space_that_cannot_be_drawn_from_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        points(text)


def test_random_search_is_planned_without_optuna(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    for name in ("gan.sweep.search", "gan.sweep.space", "gan.sweep.cmaes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for sweep in ((LOG_LR, *RANDOM), ("optimizer.lr=1e-4,2e-4,3e-4,4e-4",)):
        gan.sweep(*sweep, *TINY, "sweep.dry_run=true", sweep_dir=tmp_path / "sweep")
        assert "4 runs, 0 done, 4 to run" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"optuna is not installed; pip install .*\[optuna\]"):
        gan.sweep(LOG_LR, "hydra/sweeper=optuna", *TINY, sweep_dir=tmp_path / "sweep")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("n_trials=0", "must be at least 1"),
        ("pruner=asha", "unknown key 'hydra.sweeper.pruner'; .* _target_, params, n_trials"),
    ],
)
def test_wrong_setting_of_a_random_search_is_refused(key: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.sweeper\.{key}: {reason}"):
        gan.sweep(
            LOG_LR, "hydra/sweeper=random", f"hydra.sweeper.{key}", *TINY, sweep_dir=tmp_path / "a"
        )
    assert not list(tmp_path.iterdir())
