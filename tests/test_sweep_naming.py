"""Identity of runs, and names of their directories."""

import math

import pytest

from gan.config.checks import flatten
from gan.config.compose import compose
from gan.sweep.naming import LONGEST, identity, job_name, name_of_point
from gan.sweep.report import spread


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"optimizer.lr": 2e-4, "model.hidden_dim": 256}, "hidden_dim=256,lr=0.0002"),
        ({"seed": 1, "optimizer.lr": 1e-05}, "lr=1e-05,seed=1"),
        ({"model": "small", "seed": 3}, "model=small,seed=3"),
        ({"optimizer.betas": [0.5, 0.999]}, "betas=0.5_0.999"),
        ({"logging.every": 1, "metrics.every": 2}, "logging.every=1,metrics.every=2"),
        ({"a.b.x": 1, "c.b.x": 2, "a.d": 3}, "a.b.x=1,d=3,c.b.x=2"),
        ({"penalty.gamma": None, "x.flag": True}, "gamma=null,flag=true"),
    ],
)
def test_job_name(values: dict[str, object], name: str) -> None:
    assert job_name(values) == name
    assert job_name(dict(reversed(values.items()))) == name


def test_an_unsafe_name_is_replaced_and_stays_unique() -> None:
    first, second = job_name({"x": "a/b"}), job_name({"x": "a\\b"})
    assert first.startswith("x=a_b-")
    assert second.startswith("x=a_b-")
    assert first != second


def test_a_long_name_is_shortened_and_stays_unique() -> None:
    names = {job_name({f"group.key{i}": i for i in range(30)} | {"last": n}) for n in range(3)}
    assert len(names) == 3
    assert all(len(name) <= LONGEST for name in names)


def test_identity_is_of_what_defines_the_result() -> None:
    def of(*overrides: str) -> str:
        return identity(flatten(compose(*overrides)))

    assert of() == of("device=cpu", "logging=quiet", "name=other", "threads=3", "notes=x")
    assert of() == of("optimizer.lr=0.0002") == of("sweep.seeds=3")
    others = ["seed=1", "optimizer.lr=1e-3", "penalty=none", "trainer.max_steps=7"]
    assert len({of(), *map(of, others)}) == 1 + len(others)


def test_the_name_of_a_point_leaves_out_the_seed() -> None:
    assert name_of_point(
        ["hidden_dim=256,lr=0.0002,seed=1", "hidden_dim=256,lr=0.0002,seed=2"]
    ) == ("hidden_dim=256,lr=0.0002")
    assert name_of_point(["seed=1", "seed=2"]) == "all"


def test_the_spread_of_seeds() -> None:
    assert spread([4.0]) == (4.0, 0.0)
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0)
    assert spread([1.0, 2.0, math.inf]) == (2.0, math.inf)
    assert spread([1.0, 2.0, 3.0, 4.0, math.inf]) == (3.0, 2.0)
    assert spread([1.0, math.inf, math.inf])[0] == math.inf
