"""Plans: the points of a grid, the configurations of jobs, their identities and their names."""

import pytest
from sweep_commands import compose_sweep

from gan.config.checks import flatten
from gan.config.compose import compose
from gan.sweep.composer import Composer, plain_config
from gan.sweep.plan import MAX_NAME_LENGTH, identity, job_name, point_name
from gan.sweep.space import read_space


def test_composed_jobs_are_those_that_hydra_composes() -> None:
    master, loader = compose_sweep()
    composer = Composer(loader, master)
    points = [
        ["optimizer.lr=1e-3", "model=small", "model.hidden_dim=7"],
        ["model.hidden_dim=7", "model=large", "optimizer=sgd", "optimizer.momentum=0.5"],
        ["experiment=lab", "optimizer.betas=[0.1,0.2]", "trainer.max_epochs=2", "tags=[a,b]"],
        ["penalty=none", "notes='a, b'", "trainer={max_steps:5,batch_size:3}", "name=x"],
    ]
    for point in points * 2:
        expected = loader.load_sweep_config(master, point)
        del expected.__dict__["_content"]["hydra"]
        assert plain_config(composer.compose(point)) == plain_config(expected)


def test_grid_joins_the_command_line_and_the_params_of_the_sweeper() -> None:
    _, loader = compose_sweep()
    space = read_space(loader, ["a=1", "b=range(2)"], {"c": "x,y", "b": "7,8", "d": 3})
    points = list(space.points())
    assert points == [[f"c={c}", "d=3", "a=1", f"b={b}"] for c in "xy" for b in (0, 1)]


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
def test_job_is_named_after_its_swept_values(values: dict[str, object], name: str) -> None:
    assert job_name(values) == name
    assert job_name(dict(reversed(values.items()))) == name


def test_name_with_unsafe_characters_is_replaced_by_a_unique_one() -> None:
    first, second = job_name({"x": "a/b"}), job_name({"x": "a\\b"})
    assert first.startswith("x=a_b-")
    assert second.startswith("x=a_b-")
    assert first != second


def test_long_name_is_shortened_to_a_unique_one() -> None:
    names = {job_name({f"group.key{i}": i for i in range(30)} | {"last": n}) for n in range(3)}
    assert len(names) == 3
    assert all(len(name) <= MAX_NAME_LENGTH for name in names)


def test_name_of_a_point_leaves_out_the_seed() -> None:
    names = ["hidden_dim=256,lr=0.0002,seed=1", "hidden_dim=256,lr=0.0002,seed=2"]
    assert point_name(names) == "hidden_dim=256,lr=0.0002"
    assert point_name(["seed=1", "seed=2"]) == "all"
    long = {f"group.a_long_name_of_a_key_{i}": i for i in range(9)}
    cut = [job_name(long | {"optimizer.lr": lr, "seed": 0}) for lr in (1e-4, 2e-4)]
    assert len({point_name([name]) for name in cut}) == 2


def test_identity_depends_on_what_defines_the_result_alone() -> None:
    def identity_of(*overrides: str) -> str:
        return identity(flatten(compose(*overrides)))

    same = ["device=cpu", "logging=quiet", "name=other", "threads=3", "notes=x"]
    assert identity_of() == identity_of(*same)
    assert identity_of() == identity_of("optimizer.lr=0.0002") == identity_of("sweep.seeds=3")
    others = ["seed=1", "optimizer.lr=1e-3", "penalty=none", "trainer.max_steps=7"]
    assert len({identity_of(), *map(identity_of, others)}) == 1 + len(others)
