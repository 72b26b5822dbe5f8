"""Spaces: zipped keys, keys that depend on a choice, and conditions on points."""

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from hydra.core.config_loader import ConfigLoader
from sweep_commands import TINY, compose_sweep, execute, sweep_command

from gan.config.checks import flatten
from gan.config.spaces import keys_of, read_dimension
from gan.errors import UserError
from gan.sweep.composer import Composer
from gan.sweep.draw import random_points
from gan.sweep.space import Space, read_space
from gan.sweep.where import Where

ZIP = "study=zip(model=choice(small,base,large),optimizer.lr=choice(1e-4,2e-4,4e-4))"
PENALTIES = "penalty=none,r1,wgan_gp"
GAMMA = "penalty.gamma=when(penalty=r1, 1,10)"
WEIGHT = "penalty.weight=when(penalty=wgan_gp, choice(5, 10))"


@cache
def composer() -> tuple[Composer, ConfigLoader]:
    """Return what composes the points of these tests, and Hydra's loader."""
    master, loader = compose_sweep(*TINY)
    return Composer(loader, master), loader


def space_of(*texts: str, params: Mapping[str, object] | None = None) -> Space:
    """Return the space of a command line."""
    return read_space(composer()[1], texts, params or {})


def points(*texts: str, params: Mapping[str, object] | None = None) -> list[str]:
    """Return the points of a grid, each as one text."""
    return [" ".join(point) for point in space_of(*texts, params=params).points()]


def test_zipped_keys_change_together() -> None:
    space = space_of(ZIP, "seed=1,2")
    assert [" ".join(point) for point in space.points()] == [
        f"model={model} optimizer.lr={lr} seed={seed}"
        for model, lr in (("small", 0.0001), ("base", 0.0002), ("large", 0.0004))
        for seed in (1, 2)
    ]
    assert space.keys == ["model", "optimizer.lr", "seed"]


def test_a_zip_may_repeat_values_of_one_key() -> None:
    assert points("s=zip(trainer.n_critic=choice(1,1,2),trainer.batch_size=choice(32,64,64))") == [
        "trainer.n_critic=1 trainer.batch_size=32",
        "trainer.n_critic=1 trainer.batch_size=64",
        "trainer.n_critic=2 trainer.batch_size=64",
    ]
    same = points("s=zip(model=choice(small,small),seed=choice(1,1))")
    assert same == ["model=small seed=1"] * 2, "a repeated point is planned as in a plain sweep"


def test_several_zips_stand_beside_plain_keys_in_any_notation() -> None:
    found = points(
        "a=zip(model=choice(small,base),seed=range(2))",
        "loss=hinge",
        "b=zip(optimizer.betas=choice([0,0.9],[0.5,0.999]),+schedule.x=choice('a,b', \"c)\"))",
    )
    assert found == [
        f"{first} loss=hinge {second}"
        for first in ("model=small seed=0", "model=base seed=1")
        for second in (
            r"optimizer.betas=[0,0.9] +schedule.x=a\,b",
            r"optimizer.betas=[0.5,0.999] +schedule.x=c\)",
        )
    ]


def test_a_value_with_several_keys_is_an_override_of_each() -> None:
    space = space_of("optimizer={lr:1e-4,betas:[0,0.9]},{lr:2e-4,betas:[0.5,0.999]}")
    assert [list(point) for point in space.points()] == [
        ["optimizer.lr=0.0001", "optimizer.betas=[0,0.9]"],
        ["optimizer.lr=0.0002", "optimizer.betas=[0.5,0.999]"],
    ]
    assert space.keys == ["optimizer.betas", "optimizer.lr"]


def test_a_key_is_varied_only_where_its_condition_holds() -> None:
    expected = [
        "penalty=none",
        *("penalty=r1 penalty.gamma=1", "penalty=r1 penalty.gamma=10"),
        *("penalty=wgan_gp penalty.weight=5", "penalty=wgan_gp penalty.weight=10"),
    ]
    assert points(PENALTIES, GAMMA, WEIGHT) == expected
    assert sorted(points(WEIGHT, GAMMA, PENALTIES)) == sorted(
        text if "=none" in text else " ".join(reversed(text.split())) for text in expected
    ), "the order on the command line does not matter"


def test_conditions_may_name_several_values_zips_and_keys_that_depend_themselves() -> None:
    found = points(
        "penalty=none,r1,r2",
        "penalty.gamma=when(penalty=[r1,r2], 1,10)",
        "together=when(penalty.gamma=10, zip(seed=choice(1,2),model=choice(small,base)))",
        "trainer.n_critic=when(model=base, 5)",
    )
    with_ten = ["seed=1 model=small", "seed=2 model=base trainer.n_critic=5"]
    assert found == [
        "penalty=none",
        *(
            f"penalty={name} penalty.gamma={gamma}"
            for name, gamma in (("r1", 1), *[("r1", f"10 {one}") for one in with_ten])
        ),
        *(
            f"penalty={name} penalty.gamma={gamma}"
            for name, gamma in (("r2", 1), *[("r2", f"10 {one}") for one in with_ten])
        ),
    ]


@pytest.mark.parametrize("written", ["when( penalty = r1 , 1,10 )", "when(penalty=r1,1,10)"])
def test_spaces_in_a_condition_mean_nothing(written: str) -> None:
    expected = ["penalty=none", "penalty=r1 penalty.gamma=1", "penalty=r1 penalty.gamma=10"]
    assert points("penalty=none,r1", f"penalty.gamma={written}") == expected


def test_a_condition_on_null_does_not_hold_where_the_key_is_not_set() -> None:
    patience = "trainer.patience=when(penalty=r1, null,5)"
    assert points("penalty=none,r1", patience, "seed=when(trainer.patience=null, 1,2)") == [
        "penalty=none",
        "penalty=r1 trainer.patience=null seed=1",
        "penalty=r1 trainer.patience=null seed=2",
        "penalty=r1 trainer.patience=5",
    ]


def test_a_list_of_plain_values_in_a_file_is_refused() -> None:
    with pytest.raises(UserError) as refused:
        points(params={"optimizer.lr": ["1e-4", "2e-4"]})
    assert str(refused.value) == (
        "hydra.sweeper.params.optimizer.lr: 1e-4 has no condition, and a list has one when(...) "
        'for each; write several values as "1e-4,2e-4"'
    )
    assert points(params={"seed": ["3"]}) == ["seed=3"]


def test_a_key_may_have_other_values_under_other_conditions() -> None:
    space = space_of(
        "penalty=r1,r2",
        "penalty.gamma=when(penalty=r1, 1,10)",
        "penalty.gamma=when(penalty=r2, 5)",
    )
    assert [point[1] for point in space.points()] == [
        *("penalty.gamma=1", "penalty.gamma=10", "penalty.gamma=5"),
    ]
    assert [one.name for one in space.swept][1:] == [
        "penalty.gamma when penalty=r1",
        "penalty.gamma when penalty=r2",
    ]
    in_yaml = space_of(
        params={
            "penalty": "r1,r2",
            "penalty.gamma": ["when(penalty=r1, 1,10)", "when(penalty=r2, 5)"],
        }
    )
    assert [list(point) for point in in_yaml.points()] == [list(point) for point in space.points()]


def test_the_command_line_replaces_what_a_file_sweeps_over() -> None:
    params = {"study": "zip(model=choice(small,base),seed=choice(1,2))", "penalty": PENALTIES[8:]}
    assert len(points(params=params)) == 6
    assert points("study=zip(model=choice(large),seed=choice(7))", "penalty=r1", params=params) == [
        "model=large seed=7 penalty=r1"
    ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["s=zip(model=choice(small,base),seed=1)"],
            "s=zip(model=choice(small,base),seed=1): needs as many values of each key: "
            "model has 2, seed has 1",
        ),
        (["s=zip(seed=choice(1,2),t=zip(a=1,b=2))"], "has a zip within a zip; write one zip"),
        (["s=zip(seed=when(loss=hinge,1),a=2)"], "has a condition within a zip; write NAME=when"),
        (["s=zip(seed=interval(1,2),loss=choice(hinge))"], "seed=interval(1,2) is an interval"),
        (["s=zip(seed=choice(1),seed=choice(2))"], "has seed twice"),
        (["s=zip(choice(1,2))"], "choice(1,2) is not KEY=VALUES; write NAME=zip("),
        (["s=zip()"], "an empty part is not KEY=VALUES"),
        (
            [ZIP, "model=base"],
            f"model: set twice, by {ZIP} and by model=base",
        ),
        (
            ["penalty=r1,wgan_gp", "penalty.gamma=when(penalty=r3, 1,10)"],
            "penalty.gamma=when(penalty=r3, 1,10): penalty is never r3, it is r1 or wgan_gp; "
            "did you mean 'r1'?",
        ),
        ([GAMMA], f"{GAMMA}: penalty is neither swept over nor given; add it, as in penalty=r1,"),
        (["penalty=r2", GAMMA], f"{GAMMA}: penalty is never r1, it is r2"),
        (
            ["seed=when(trainer.n_critic=2, 1,2)", "trainer.n_critic=int(interval(1,3))"],
            "trainer.n_critic needs values and not an interval",
        ),
        (["seed=when(loss=hinge, 1)", "loss=when(seed=1, hinge)"], "depends on itself"),
        (["seed=when(1,2)", "loss=hinge"], "needs a choice and values, as in seed=when("),
        (["seed=when(loss=hinge)", "loss=hinge"], "needs a choice and values"),
        (["seed=when(loss=hinge, )", "loss=hinge"], "needs a choice and values"),
        (["seed=when(loss==hinge, 1)", "loss=hinge"], "loss==hinge is no choice; write KEY=VALUE"),
        (
            ["seed=when(loss=hinge, 1,10))", "loss=hinge"],
            "seed=when(loss=hinge, 1,10)): a bracket is not closed, or there is one too many",
        ),
        (["seed=when(loss=hinge, choice(1,2)", "loss=hinge"], "seed=when(loss=hinge, choice(1,2)"),
        (["s=zip(seed=choice('1,2),a=b)"], "a quote is not closed"),
        (["sweep.seeds=3,5", "seed=1"], "sweep.seeds=3,5: takes one value"),
        (["sweep.where=true,false", "seed=1"], "sweep.where=true,false: takes one value"),
        (["seed=1,2)"], "seed=1,2): cannot be read ("),
        (
            ["seed=1,2", "trainer.n_critic=3", "trainer.n_critic=when(seed=1, 1,5)"],
            "trainer.n_critic=3 trainer.n_critic=when(seed=1, 1,5): set trainer.n_critic with a "
            "condition and without",
        ),
        (
            ["seed=1,2", "trainer.n_critic=when(seed=1, 1,5)", "trainer.n_critic=3"],
            "set trainer.n_critic with a condition and without",
        ),
        (
            ["seed=when(loss=hinge, when(model=base, 1,2))", "loss=hinge"],
            "a condition within a condition; let loss itself have the other condition",
        ),
        (
            [PENALTIES, GAMMA, "model=small,base", "penalty.gamma=when(model=base, 7)"],
            "penalty.gamma: set twice, by penalty.gamma=when(penalty=r1, 1,10) and by",
        ),
    ],
)
def test_a_wrong_space_is_refused_in_one_line(texts: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        points(*texts)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_random_search_draws_what_a_condition_asks_for() -> None:
    space = space_of(
        ZIP, PENALTIES, "penalty.gamma=when(penalty=r1, tag(log, interval(0.1, 10)))", WEIGHT
    )
    drawn = [" ".join(point) for point in itertools.islice(random_points(space, 0), 300)]
    grid = {" ".join(point) for point in space_of(ZIP, PENALTIES, WEIGHT).points()}
    kinds = {text.partition(" penalty.gamma")[0] for text in drawn}
    assert kinds == grid
    assert all(("gamma" in text) == ("=r1" in text) for text in drawn)
    gammas = {float(text.partition("gamma=")[2]) for text in drawn if "gamma" in text}
    assert len(gammas) > 50
    assert min(gammas) < 0.3
    assert max(gammas) > 3


def test_corners_show_every_value_of_every_dimension() -> None:
    space = space_of(PENALTIES, GAMMA, WEIGHT, "seed=when(penalty.weight=10, 3,4)")
    texts = {text for point in space.corners() for text in point}
    assert texts == {
        *("penalty=none", "penalty=r1", "penalty=wgan_gp", "penalty.gamma=1", "penalty.gamma=10"),
        *("penalty.weight=5", "penalty.weight=10", "seed=3", "seed=4"),
    }


def test_keys_are_those_inside_of_a_zip() -> None:
    assert keys_of(ZIP) == ["model", "optimizer.lr"]
    assert keys_of(GAMMA) == ["penalty.gamma"]
    assert keys_of("+a.b=zip") == ["a.b"]
    assert read_dimension("notes='when(it rains, stop)'") is None
    assert read_dimension(f"+hydra.sweeper.params.{GAMMA}") is None


def meets(text: str, *overrides: str) -> bool:
    """Return whether a point meets a condition."""
    return Where(text).meets(composer()[0], list(overrides))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.hidden_dim * trainer.batch_size <= 65536", True),
        ("model.hidden_dim * trainer.batch_size > 65536", False),
        ("penalty == 'r1' and penalty.gamma >= 10", True),
        ("penalty != 'r1' or penalty.gamma < 10", False),
        ("penalty == 'none' or penalty.gamma == 10", True),
        ("optimizer.betas[0] < 0.6 and len(optimizer.betas) == 2", True),
        ("trainer.n_critic in [1, 5] and not trainer.compile == true", True),
        ("trainer.patience == null", True),
        ("max(seed, 3) - 1 == 2", True),
        ("10 <= model.hidden_dim <= 20", False),
        ("recipe == 'lab' or protocol == 'lucic'", False),
        ("recipe == null and experiment == null and protocol == null", True),
    ],
)
def test_a_condition_is_computed_from_the_configuration(text: str, expected: bool) -> None:
    point = ("model.hidden_dim=512", "trainer.batch_size=128", "penalty=r1", "penalty.gamma=10")
    assert meets(text, *point) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.hiden_dim < 3", "there is no key 'model.hiden_dim'; did you mean"),
        ("penalty == r1", "there is no key 'r1'"),
        ("penalty.gamma < 3", "there is no key 'penalty.gamma'"),
        ("model.hidden_dim", "gives 256 and neither true nor false"),
        ("model.hidden_dim <", "cannot be read"),
        ("seed / 0 < 1", "cannot be computed (division by zero)"),
        ("trainer.patience < 3", "cannot be computed ('<' not supported"),
        ("__import__('os').system('x') == 0", "sweep.where"),
        ("().__class__ == 1", "sweep.where"),
        ("9**9**9 > 1", "cannot be computed"),
    ],
)
def test_a_wrong_condition_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as refused:
        meets(text, "model.hidden_dim=256", "penalty=none")
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"sweep.where={text}: ")
    assert "\n" not in str(refused.value)


def chosen(*texts: str, where: str, limit: int | None = None) -> Sequence[str]:
    """Return the points of a grid, or of a random search, that meet a condition."""
    space = space_of(*texts)
    offered = space.points() if limit is None else random_points(space, 0)
    found = Where(where).chosen(composer()[0], offered, limit)
    return [" ".join(point) for point in found]


def test_points_that_do_not_meet_a_condition_are_left_out() -> None:
    grid = ("model.hidden_dim=64,128", "trainer.batch_size=32,64")
    assert chosen(*grid, where="model.hidden_dim * trainer.batch_size <= 4096") == [
        "model.hidden_dim=64 trainer.batch_size=32",
        "model.hidden_dim=64 trainer.batch_size=64",
        "model.hidden_dim=128 trainer.batch_size=32",
    ]
    drawn = chosen("seed=int(interval(0, 9))", where="seed % 3 == 1", limit=20)
    assert len(drawn) == 20
    assert {*drawn} == {"seed=1", "seed=4", "seed=7"}
    with pytest.raises(UserError, match="none of 4 points meets it"):
        chosen(*grid, where="seed == 5")
    with pytest.raises(UserError, match="1000 points in a row did not meet it"):
        chosen("seed=int(interval(0, 9))", where="seed > 9", limit=1)


STUDY = (
    "study=zip(model.hidden_dim=choice(16,24),optimizer.lr=choice(1e-4,2e-4))",
    *("penalty=r1,wgan_gp", GAMMA, "penalty.weight=when(penalty=wgan_gp, 5,10)"),
    "sweep.where=not (penalty == 'r1' and penalty.gamma == 10 and model.hidden_dim > 16)",
)


def test_a_study_is_planned_run_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    code, out, err = execute(sweep_command(path, *STUDY))
    assert code == 0, out + err
    assert "1 of 8 points are left out by sweep.where=not (penalty == 'r1'" in out
    names = sorted(run.parent.name for run in path.glob("*/result.json"))
    assert len(names) == 7
    assert "hidden_dim=16,lr=0.0001,penalty=r1,gamma=10.0" in names
    assert "hidden_dim=24,lr=0.0002,penalty=r1,gamma=10.0" not in names
    assert "hidden_dim=24,lr=0.0002,penalty=wgan_gp,weight=5.0" in names
    written = {run: run.stat().st_mtime_ns for run in path.glob("*/result.json")}
    code, out, err = execute(sweep_command(path, *STUDY))
    assert code == 0, out + err
    assert written == {run: run.stat().st_mtime_ns for run in path.glob("*/result.json")}
    stored = json.loads((path / "sweep.json").read_text())
    assert stored["swept"] == [
        *("model.hidden_dim", "optimizer.lr", "penalty", "penalty.gamma", "penalty.weight")
    ]


def test_a_study_in_one_run_asks_for_a_sweep(tmp_path: Path) -> None:
    command = [text for text in sweep_command(tmp_path, ZIP) if text != "--multirun"]
    words = [text for text in command if not text.startswith(("hydra.sweep", "hydra.launcher"))]
    code, out, err = execute([*words, f"hydra.run.dir={tmp_path / 'run'}"])
    assert code == 2, out + err
    assert f"{ZIP}: to sweep over several values add --multirun" in err
    assert not (tmp_path / "run").exists()


def test_the_configuration_of_a_point_has_its_values() -> None:
    for point in space_of(PENALTIES, GAMMA).points():
        flat = flatten(composer()[0].compose(point))
        assert flat.get("penalty.gamma") == (
            float(point[1].partition("=")[2]) if len(point) > 1 else None
        )
