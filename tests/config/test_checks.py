"""Every key has limits that are checked, and some keys decide a result."""

import math
from dataclasses import Field, fields
from typing import Any

import pytest
from conf_options import CHOICES, OPTIONS, composed, with_hydra
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import ABSENT_IF, all_keys, checked, defines_result, doubts, flatten
from gan.config.compose import compose
from gan.config.schema import GROUPS, Config
from gan.errors import UserError

LIMITED = [("", "", entry) for entry in fields(Config) if entry.name not in GROUPS] + [
    (choice.partition("=")[0], choice, entry)
    for choice in OPTIONS
    for entry in fields(OmegaConf.get_type(composed(choice)[choice.partition("=")[0]]))  # type: ignore[arg-type]
    if entry.name != "_target_"
]
NUMBERS = [case for case in LIMITED if case[2].type in (float, list[float])]


def label(value: object) -> str:
    return str(getattr(value, "__name__", None) or getattr(value, "name", value))


def with_value(group: str, choice: str, entry: Field[Any], value: object) -> DictConfig:
    """Return a configuration with this option and another value of this key."""
    cfg = composed(choice or None).copy()
    many = entry.type in (list[float], list[str])
    value = [value] * entry.metadata.get("length", 1) if many else value
    OmegaConf.update(cfg[group] if group else cfg, entry.name, value)
    return cfg


def assert_refused(group: str, choice: str, entry: Field[Any], value: object) -> None:
    with pytest.raises(UserError) as raised:
        checked(with_value(group, choice, entry, value))
    assert str(raised.value).startswith(f"{group}.{entry.name}=".lstrip("."))


@pytest.mark.parametrize(("group", "choice", "entry"), LIMITED, ids=label)
def test_a_value_is_refused_as_soon_as_it_is_outside_its_limits(
    group: str, choice: str, entry: Field[Any]
) -> None:
    limits = dict(entry.metadata)
    least, beyond = limits.pop("min", None), limits.pop("below", None)
    above, choices = limits.pop("above", None), limits.pop("choices", None)
    pattern, most = limits.pop("pattern", None), limits.pop("max", None)
    assert set(limits) <= {"length", "path"}, "a limit that this test does not know"
    if least is not None:
        assert_refused(group, choice, entry, least - 1)
        if not entry.name.endswith("epochs"):  # a number of steps is set beside it
            checked(with_value(group, choice, entry, least))
    if most is not None:
        assert_refused(group, choice, entry, most + 1)
        checked(with_value(group, choice, entry, most))
    if above is not None:
        assert_refused(group, choice, entry, above)
    if beyond is not None:
        assert_refused(group, choice, entry, beyond)
    if choices is not None or pattern is not None:
        assert_refused(group, choice, entry, -1 if entry.type is int else "no such")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("group", "choice", "entry"), NUMBERS, ids=label)
def test_nan_and_infinity_are_refused(
    group: str, choice: str, entry: Field[Any], value: float
) -> None:
    assert_refused(group, choice, entry, value)


def test_flatten_gives_every_value_a_dotted_key() -> None:
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
def test_some_keys_do_not_change_a_result(key: str, expected: bool) -> None:
    assert defines_result(key) is expected


def test_all_keys_are_those_of_all_options() -> None:
    names = all_keys()
    assert len(names) == len(set(names))
    found = {name for choice in CHOICES for name in flatten(composed(choice))}
    # The settings of a tracker are those of its target.
    settings = {name for name in found if name.startswith("logging.trackers.")}
    assert settings
    assert set(names) == (found - settings) | {"logging.trackers", *ABSENT_IF}


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        ("loss=wasserstein penalty=none", "loss=wasserstein"),
        ("loss=wasserstein penalty=none model.discriminator_spectral_norm=true", None),
        (
            "loss=wasserstein penalty=none model=dcgan model.discriminator_spectral_norm=true",
            "batch norm scales what spectral norm bounds",
        ),
        ("recipe=hinge_sn model=dcgan_small", None),
        ("recipe=hinge_sn model.discriminator_norm=batch", "set model.discriminator_norm=none"),
        ("loss=wasserstein penalty=wgan_gp", None),
        ("loss=wasserstein penalty=weight_clip", None),
        ("model.discriminator_norm=batch", "penalty=r1"),
        ("model.discriminator_norm=batch penalty=wgan_gp", "penalty=wgan_gp"),
        ("model.discriminator_norm=batch penalty=weight_clip", None),
        ("model.discriminator_norm=batch penalty=none", None),
        ("model.discriminator_norm=layer penalty=wgan_gp", None),
        ("seed=1", None),
        ("trainer.augment_p=0.5", "trainer.augment_p: has no effect without trainer.augment"),
        ("trainer.augment_p=0.5 trainer.augment=[flip]", None),
        ("trainer.ada_images=9", "trainer.ada_images: has no effect without trainer.ada_target"),
        *(
            (f"trainer.augment=[flip] trainer.ada_target=0.6 {loss}", fragment)
            for loss, fragment in (
                ("loss=hinge penalty=none", None),
                ("loss=relativistic", "trainer.ada_target with loss=relativistic"),
                ("loss=least_squares", "trainer.ada_target with loss=least_squares"),
                ("recipe=wgan_gp", "trainer.ada_target with loss=wasserstein"),
            )
        ),
        ("trainer.consistency_real=3", "no effect without trainer.consistency"),
        ("trainer.consistency_real=3 trainer.consistency=[flip]", None),
        ("+schedule.trainer.augment_p.values=[0,1]", "trainer.augment_p: has no effect"),
    ],
)
def test_settings_that_are_rarely_intended_give_a_warning(
    overrides: str, fragment: str | None
) -> None:
    warnings = doubts(compose(*overrides.split()))
    assert len(warnings) == (fragment is not None)
    assert fragment is None or fragment in warnings[0]


def test_check_does_not_change_the_configuration() -> None:
    cfg = compose("experiment=lab")
    before = OmegaConf.to_yaml(cfg)
    checked(cfg)
    assert OmegaConf.to_yaml(cfg) == before
