"""Every YAML file composes and binds to its target; mistakes are told in one line."""

import copy
import functools
import inspect
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING as NOTHING
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_object
from omegaconf import MISSING, DictConfig, OmegaConf

from gan.config.checks import all_keys, check, defines_result, doubts, flatten
from gan.config.compose import CONF_DIR, compose
from gan.config.schema import SCHEMAS, Config
from gan.errors import UserError

TRAIN = CONF_DIR.parent / "scripts/train.py"

# Each file of a group as the override that chooses it, such as "model=base"; the rest is always in.
FILES = sorted(path.relative_to(CONF_DIR).with_suffix("") for path in CONF_DIR.rglob("*.yaml"))
GROUPED = [file for file in FILES if file.parent != Path()]
CHOICES = [f"{file.parent.as_posix()}={file.name}" for file in GROUPED]
OPTIONS = [choice for choice in CHOICES if choice.partition("=")[0] in SCHEMAS]

# What has no default, by the choice that needs it.
MANDATORY = {"data=image_folder": ["data.folder=images"]}


@functools.cache
def composed(choice: str | None) -> DictConfig:
    """Not to be changed by a test."""
    return compose(choice, *MANDATORY.get(choice, [])) if choice else compose()


def with_hydra(*overrides: str) -> DictConfig:
    """The whole configuration, Hydra's own part included."""
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return hydra_compose("config", overrides=list(overrides), return_hydra_config=True)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node that names a target, with its dotted path."""
    if isinstance(node, dict):
        if node.get("_target_") is not None:
            yield path, node
        for name, value in node.items():
            yield from targets(value, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{path}.{index}")


def bind(path: str, node: dict[str, Any]) -> None:
    """Bind a node as gan.build calls it; TypeError where a name is missing or too many."""
    settings = {name: value for name, value in node.items() if name != "_target_"}
    positional: list[object] = []
    if path == "model":
        settings |= {"image_shape": (1, 28, 28), "classes": 0, "pac": 1}
        del settings["conditional"]
    elif path in ("optimizer", "discriminator_optimizer"):
        positional = ["params"]
    elif path == "penalty":
        del settings["interval"]
    signature = inspect.signature(get_object(node["_target_"]))
    if path in SCHEMAS:
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, "it would bind to anything"
    signature.bind(*positional, **settings)


def test_the_walk_finds_the_files() -> None:
    assert {choice.partition("=")[0] for choice in CHOICES} >= {*SCHEMAS, "experiment"}
    assert {"model=base", "optimizer=adam", "experiment=lab"} <= set(CHOICES)


@pytest.mark.parametrize("choice", [None, *CHOICES])
def test_every_file_composes_resolves_and_binds(choice: str | None) -> None:
    cfg = composed(choice)
    assert OmegaConf.missing_keys(cfg) == set()
    assert set(flatten(cfg)) <= set(all_keys())

    plain = OmegaConf.to_container(with_hydra(*[choice] if choice else []), resolve=False)
    found = dict(targets(plain))
    assert {"model", "optimizer", "loss", "data", "hydra.callbacks.check"} <= set(found)
    for path, node in found.items():
        bind(path, node)


def test_binding_notices_a_wrong_name() -> None:
    node = {str(name): value for name, value in compose().model.items()}
    with pytest.raises(TypeError, match="hiden_dim"):
        bind("model", node | {"hiden_dim": 3})
    del node["hidden_dim"]
    with pytest.raises(TypeError, match="hidden_dim"):
        bind("model", node)


@pytest.mark.parametrize("choice", OPTIONS)
def test_every_group_file_has_a_schema(choice: str) -> None:
    group = choice.partition("=")[0]
    assert OmegaConf.get_type(composed(choice)[group]) in SCHEMAS[group].values()


@pytest.mark.parametrize("group", SCHEMAS)
def test_every_schema_has_a_file(group: str) -> None:
    used = {
        OmegaConf.get_type(composed(choice)[group])
        for choice in OPTIONS
        if choice.startswith(f"{group}=")
    }
    assert used == set(SCHEMAS[group].values())


@pytest.mark.parametrize(
    "schema", [Config, *(schema for schemas in SCHEMAS.values() for schema in schemas.values())]
)
def test_schemas_hold_no_defaults(schema: type) -> None:
    for entry in fields(schema):
        assert entry.default == MISSING, entry.name
        assert entry.default_factory is NOTHING, entry.name


def test_schemas_name_the_groups_of_the_top_level() -> None:
    groups = [entry.name for entry in fields(Config) if entry.type is Any]
    assert groups == list(SCHEMAS)


def test_lr_is_both_learning_rates_unless_the_discriminators_is_set() -> None:
    def rates(*overrides: str) -> tuple[float, float]:
        cfg = compose(*overrides)
        return cfg.optimizer.lr, cfg.discriminator_optimizer.lr

    assert rates("optimizer.lr=3e-4") == (3e-4, 3e-4)
    assert rates("optimizer.lr=3e-4", "discriminator_optimizer.lr=1e-5") == (3e-4, 1e-5)
    assert rates("discriminator_optimizer.lr=1e-5") == (2e-4, 1e-5)
    assert rates("optimizer.lr=3e-4", "discriminator_optimizer=rmsprop") == (3e-4, 3e-4)


def test_the_default_recipe() -> None:
    cfg = compose()
    assert (cfg.model.hidden_dim, cfg.model.latent_dim) == (256, 100)
    assert (cfg.optimizer._target_, cfg.optimizer.betas) == ("torch.optim.Adam", [0.5, 0.999])
    assert cfg.loss._target_ == "gan.losses.non_saturating"
    assert (cfg.data._target_, cfg.penalty._target_) == ("gan.data.mnist5k", "gan.penalties.r1")


def test_the_command_line_overrides_an_experiment() -> None:
    cfg = compose("experiment=lab", "data=mnist5k", "optimizer.lr=1e-3", "trainer.max_epochs=2")
    assert cfg.data._target_ == "gan.data.mnist5k"
    assert (cfg.optimizer.lr, cfg.trainer.max_epochs, cfg.trainer.max_steps) == (1e-3, 2, None)
    assert (cfg.optimizer.betas, cfg.penalty._target_) == ([0.9, 0.999], None)


WRONG = [
    # Unknown keys
    ("optimizer.lrr=1", ["optimizer.lrr=1", "unknown key", "'lr'"]),
    ("model.hiden_dim=1", ["model.hiden_dim=1", "unknown key", "'hidden_dim'"]),
    ("trainer.max_step=3", ["trainer.max_step=3", "unknown key", "'max_steps'"]),
    ("model.foo=1", ["model.foo=1", "unknown key", "latent_dim, conditional"]),
    ("seeds=3", ["seeds=3", "unknown key", "'seed'"]),
    ("modle=base", ["modle=base", "unknown key", "'model'"]),
    ("+model.foo=1", ["model.foo", "unknown key"]),
    ("++model.hiden_dim=1", ["model.hiden_dim", "unknown key", "'hidden_dim'"]),
    ("+foo=1", ["foo", "unknown key"]),
    ("optimizer=sgd optimizer.betas=[0,0]", ["optimizer.betas", "unknown key", "nesterov"]),
    ("penalty=none penalty.gamma=1", ["penalty.gamma=1", "unknown key", "interval"]),
    ("~model.hidden_dim", ["model.hidden_dim"]),
    ("~optimizer", ["optimizer"]),
    # Unknown options of groups
    ("model=huge", ["model=huge", "no such option", "base, dcgan, "]),
    ("model=bas", ["model=bas", "base, dcgan, ", "did you mean 'base'"]),
    ("optimizer=adan", ["optimizer=adan", "adam, adamw, rmsprop, sgd", "did you mean 'adam"]),
    ("loss=minmax", ["loss=minmax", "did you mean 'minimax'"]),
    ("penalty=wgangp", ["penalty=wgangp", "did you mean 'wgan_gp'"]),
    ("data=cifar", ["data=cifar", "mnist5k"]),
    ("experiment=none", ["experiment=none", "no such option", "lab"]),
    # Types
    ("optimizer.lr=abc", ["optimizer.lr=abc", "a number"]),
    ("optimizer.lr=true", ["optimizer.lr=true", "a number"]),
    ("optimizer.lr=[1,2]", ["optimizer.lr=[1,2]", "a number"]),
    ("model.hidden_dim=1.5", ["model.hidden_dim=1.5", "a whole number"]),
    ("model.hidden_dim=true", ["model.hidden_dim=true", "a whole number"]),
    ("model.hidden_dim=null", ["model.hidden_dim=null"]),
    ("seed=one", ["seed=one", "a whole number"]),
    ("logging.tensorboard=maybe", ["logging.tensorboard=maybe", "bool"]),
    ("optimizer.betas=0.5", ["optimizer.betas=0.5", "list"]),
    ("optimizer.betas=[a,b]", ["optimizer.betas=[a,b]", "a number"]),
    ("tags=a", ["tags=a", "list"]),
    # Ranges
    ("model.hidden_dim=0", ["model.hidden_dim=0", "at least 1"]),
    ("model.hidden_dim=-8", ["model.hidden_dim=-8", "at least 1"]),
    ("optimizer.lr=-1e-3", ["optimizer.lr=-0.001", "above 0"]),
    ("optimizer.lr=0", ["optimizer.lr=0", "above 0"]),
    ("optimizer.lr=nan", ["optimizer.lr=nan", "must be"]),
    ("discriminator_optimizer.lr=-1", ["discriminator_optimizer.lr=-1", "above 0"]),
    ("discriminator_optimizer.beta=1", ["discriminator_optimizer.beta=1", "unknown key"]),
    ("optimizer.betas=[0.5,1.0]", ["optimizer.betas=[0.5,1.0]", "below 1"]),
    ("optimizer.betas=[-0.1,0.9]", ["optimizer.betas=[-0.1,0.9]", "at least 0"]),
    ("optimizer.betas=[0.5,nan]", ["optimizer.betas=[0.5,nan]", "must be"]),
    ("optimizer.betas=[0.5]", ["optimizer.betas=[0.5]", "2 values"]),
    ("optimizer.betas=[0.5,0.9,0.9]", ["optimizer.betas=[0.5,0.9,0.9]", "2 values"]),
    ("trainer.batch_size=0", ["trainer.batch_size=0", "at least 1"]),
    ("model.generator_norm=bach", ["model.generator_norm=bach", "none, batch", "'batch'"]),
    ("model.conditional=some", ["model.conditional=some", "bool"]),
    ("trainer.precision=fp64", ["trainer.precision=fp64", "fp32, bf16"]),
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("device=gpu", ["device=gpu", "cuda"]),
    ("device=cuda:x", ["device=cuda:x", "cuda"]),
    ("name=a/b", ["name=a/b", "match"]),
    ("name=", ["name=", "match"]),
    ("data=image_folder", ["data.folder: must be set, as in data.folder=VALUE"]),
    ("data=image_folder data.folder=x data.channels=4", ["data.channels=4", "must be one of 1, 3"]),
    ("data=ring8 data.root=x", ["data.root=x", "unknown key"]),
    # More than one key
    ("trainer.max_epochs=3", ["trainer.max_steps=", "trainer.max_epochs=3", "both"]),
    ("trainer.max_steps=null", ["trainer.max_steps=null", "trainer.max_epochs=null", "neither"]),
    ("experiment=lab trainer.max_steps=9", ["trainer.max_steps=9", "trainer.max_epochs=30"]),
    ("metrics=none metrics.objective=sliced_wasserstein", ["metrics.objective=sliced_wasserstein"]),
    ("metrics.objective=lr", ["metrics.objective=lr", "must be one of", "loss/generator"]),
    ("optimizer=sgd optimizer.nesterov=true", ["optimizer.nesterov=true", "momentum"]),
    (
        "discriminator_optimizer=sgd discriminator_optimizer.nesterov=true",
        ["discriminator_optimizer.nesterov=true", "discriminator_optimizer.momentum"],
    ),
    ("trainer.pac=3", ["trainer.pac=3", "divide trainer.batch_size=128"]),
    ("trainer.pac=2 model.conditional=true", ["trainer.pac=2", "model.conditional"]),
    ("trainer.augment=[cutuot]", ["trainer.augment=[cutuot]", "did you mean 'cutout'"]),
    ("trainer.ema_half_life=0", ["trainer.ema_half_life=0", "above 0"]),
    ("loss=hinge loss.label_smoothing=0.1", ["loss.label_smoothing", "unknown key"]),
    ("loss.label_smoothing=1", ["loss.label_smoothing=1", "below 1"]),
    ("metrics.names=[lenet_fdi]", ["metrics.names=[lenet_fdi]", "did you mean 'lenet_fid'"]),
    ("metrics.split=valid", ["metrics.split=valid", "train, test"]),
    # What cannot be read
    ("model.hidden_dim", ["model.hidden_dim", "KEY=VALUE"]),
    ("model.hidden_dim=1,2", ["model.hidden_dim=1,2", "--multirun"]),
    ("model.hidden_dim=${nosuch}", ["model.hidden_dim", "nosuch"]),
    ("name='a\nb'", ["name=", "match"]),
    ("model=null", ["model", "base, dcgan, "]),
    ("~seed", ["seed"]),
    ("experiment=lab penalty.gamma=2", ["penalty.gamma=2", "unknown key", "penalty has"]),
]


@pytest.mark.parametrize(("overrides", "fragments"), WRONG, ids=[repr(case) for case, _ in WRONG])
def test_a_mistake_is_told_in_one_line(overrides: str, fragments: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        compose(*overrides.split(" "))
    text = str(raised.value)
    assert "\n" not in text
    for fragment in fragments:
        assert fragment in text


LIMITED = [("", Config, entry) for entry in fields(Config) if entry.name not in SCHEMAS] + [
    (group, schema, entry)
    for group, schemas in SCHEMAS.items()
    for schema in schemas.values()
    for entry in fields(schema)
]
NUMBERS = [case for case in LIMITED if case[2].type in (float, list[float])]


def name(value: object) -> str:
    return str(getattr(value, "__name__", None) or getattr(value, "name", value))


def with_value(group: str, schema: type, entry: Field[Any], value: object) -> DictConfig:
    """A configuration that uses this schema, with another value of this key."""
    choices: list[str | None] = [choice for choice in OPTIONS if choice.startswith(f"{group}=")]
    found = (composed(choice) for choice in choices or [None])
    cfg = next(c for c in found if OmegaConf.get_type(c[group] if group else c) is schema).copy()
    many = entry.type in (list[float], list[str])
    value = [value] * entry.metadata.get("length", 1) if many else value
    OmegaConf.update(cfg[group] if group else cfg, entry.name, value)
    return cfg


def refused(group: str, schema: type, entry: Field[Any], value: object) -> None:
    with pytest.raises(UserError) as raised:
        check(with_value(group, schema, entry, value))
    assert str(raised.value).startswith(f"{group}.{entry.name}=".lstrip("."))


@pytest.mark.parametrize(("group", "schema", "entry"), LIMITED, ids=name)
def test_limits_hold_at_their_very_edge(group: str, schema: type, entry: Field[Any]) -> None:
    limits = dict(entry.metadata)
    least, beyond = limits.pop("min", None), limits.pop("below", None)
    above, choices = limits.pop("above", None), limits.pop("choices", None)
    pattern = limits.pop("pattern", None)
    assert set(limits) <= {"length"}, "a limit that this test does not know"
    if least is not None:
        refused(group, schema, entry, least - 1)
        if entry.name != "max_epochs":  # max_steps is set beside it
            check(with_value(group, schema, entry, least))
    if above is not None:
        refused(group, schema, entry, above)
    if beyond is not None:
        refused(group, schema, entry, beyond)
    if choices is not None or pattern is not None:
        refused(group, schema, entry, -1 if entry.type is int else "no such")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("group", "schema", "entry"), NUMBERS, ids=name)
def test_numbers_are_finite(group: str, schema: type, entry: Field[Any], value: float) -> None:
    refused(group, schema, entry, value)


def test_flatten_has_a_name_for_every_leaf() -> None:
    cfg = compose("tags=[a,b]", "optimizer.lr=1e-3", "model=small")
    flat = flatten(cfg)
    assert flat["model.hidden_dim"] == 128
    assert flat["discriminator_optimizer.lr"] == 1e-3, "interpolations are resolved"
    assert flat["optimizer.betas"] == [0.5, 0.999]
    assert flat["tags"] == ["a", "b"]
    assert flat["trainer.max_epochs"] is None
    assert not any(isinstance(value, dict) for value in flat.values())
    assert not any(name.startswith("hydra") for name in flat)
    assert flatten(with_hydra("tags=[a,b]", "optimizer.lr=1e-3", "model=small")) == flat


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("seed", True),
        ("optimizer.lr", True),
        ("data._target_", True),
        ("metrics.every", True),
        ("logging_rate", True),
        ("device", False),
        ("name", False),
        ("logging.every", False),
        ("data.root", False),
        ("metrics.cache", False),
    ],
)
def test_which_keys_decide_a_result(key: str, expected: bool) -> None:
    assert defines_result(key) is expected


def test_all_keys_are_those_of_the_files() -> None:
    names = all_keys()
    assert len(names) == len(set(names))
    assert set(names) == {name for choice in CHOICES for name in flatten(composed(choice))}


def test_composing_again_gives_the_same_and_changes_no_hydra_state() -> None:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        state = GlobalHydra.instance().hydra
        assert compose("seed=3") == compose("seed=3")
        with pytest.raises(UserError):
            compose("model=huge")
        assert GlobalHydra.instance().hydra is state
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        ("loss=wasserstein penalty=none", "loss=wasserstein"),
        ("loss=wasserstein penalty=none model.discriminator_spectral_norm=true", None),
        ("loss=wasserstein penalty=wgan_gp", None),
        ("loss=wasserstein penalty=weight_clip", None),
        ("model.discriminator_norm=batch", "penalty=r1"),
        ("model.discriminator_norm=batch penalty=wgan_gp", "penalty=wgan_gp"),
        ("model.discriminator_norm=batch penalty=weight_clip", None),
        ("model.discriminator_norm=batch penalty=none", None),
        ("model.discriminator_norm=layer penalty=wgan_gp", None),
        ("seed=1", None),
    ],
)
def test_what_is_seldom_meant_is_told(overrides: str, fragment: str | None) -> None:
    told = doubts(compose(*overrides.split()))
    assert len(told) == (fragment is not None)
    assert fragment is None or fragment in told[0]


def test_check_leaves_the_configuration_as_it_was() -> None:
    cfg = compose("experiment=lab")
    before = OmegaConf.to_yaml(cfg)
    check(cfg)
    assert OmegaConf.to_yaml(cfg) == before


def test_a_token_is_one_per_configuration() -> None:
    first, second = (OmegaConf.create({"a": "${token:}", "b": "${token:}"}) for _ in range(2))
    assert first.a == first.b
    assert first.a != second.a


PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as error:
    assert not error.code, error.code
print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"torch", "torchvision", "tensorboard", "sklearn", "mlxtend", "numpy"}


def loaded(cwd: Path, *arguments: str) -> tuple[str, set[str]]:
    """What a script prints, and the modules it has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stderr.split())
    assert {"hydra", "omegaconf", "gan.config.schema"} <= modules
    return done.stdout, modules


@pytest.mark.parametrize("overrides", [["model=small"], ["experiment=lab", "seed=7"]])
def test_showing_the_configuration_imports_no_torch(tmp_path: Path, overrides: list[str]) -> None:
    text, modules = loaded(tmp_path, str(TRAIN), "--cfg", "job", *overrides)
    assert not modules & HEAVY
    assert text.strip() == OmegaConf.to_yaml(compose(*overrides)).strip()
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_group_and_imports_no_torch(tmp_path: Path) -> None:
    text, modules = loaded(tmp_path, str(TRAIN), "--help")
    assert not modules & HEAVY
    for group in SCHEMAS:
        assert f"\n{group}: " in text
    assert list(tmp_path.iterdir()) == []


def test_composing_as_a_library_imports_no_torch(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from gan.config.compose import compose\nprint(compose('seed=5').seed)\n")
    text, modules = loaded(tmp_path, str(script))
    assert text == "5\n"
    assert not modules & HEAVY


def test_training_imports_no_compiler(tmp_path: Path) -> None:
    overrides = ["trainer.max_steps=1", "trainer.batch_size=16", "metrics.samples=100"]
    text, modules = loaded(tmp_path, str(TRAIN), "model=small", *overrides)
    assert "completed at step 1" in text
    assert {"torch.optim", "torch.utils.tensorboard"} <= modules
    assert "torch._dynamo" not in modules


def test_the_store_of_schemas_hands_out_copies() -> None:
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    first, second = (store.load("schema/trainer.yaml").node for _ in range(2))
    first.max_steps = 5
    assert OmegaConf.is_missing(second, "max_steps")
