"""Which runs may be trained in one cohort."""

import functools
import json
import re
from typing import Any

import pytest

from gan.config.checks import flatten
from gan.config.compose import compose
from gan.config.schema import CONF_DIR
from gan.sweep.composer import plain_config
from gan.vectorized.compatible import compatibility_key

FREE = re.compile(
    r"seed|name|tags|notes|expected|logging\..*|metrics\..*|schedule\.\w+\.\w+\.at"
    r"|schedule\.(start|end|warmup)"
    r"|trainer\.(max_steps|max_epochs|checkpoint_every|keep_best|patience|profile|flip|augment_p|ada_images|ada_target|ema_half_life|ema_ramp_up)"
    r"|(discriminator_)?optimizer\.(lr|betas|eps|alpha|momentum|weight_decay)"
    r"|loss\.label_smoothing|penalty\.(gamma|weight|limit)|model\.(hidden_dim|channels)"
)
"""The keys in which the runs of a cohort may differ. The list was written by hand, from what each
key does."""
CHOICES = ["", *(f"{p.parent.name}={p.stem}" for p in sorted(CONF_DIR.glob("recipe/*.yaml")))]
CHOICES += [f"experiment={path.stem}" for path in sorted(CONF_DIR.glob("experiment/*.yaml"))]
CHOICES += ["model=dcgan", "model=sngan_pyramid", "model=r3gan"]
CHOICES += ["data=image_folder data.folder=x", "data=ring8"]
CHOICES += ["optimizer=sgd optimizer.momentum=0.9 discriminator_optimizer=rmsprop"]
"""Overrides that together make every key appear."""


@functools.cache
def make_config(overrides: str = "") -> dict[str, Any]:
    """Return a resolved configuration, which a test must not change."""
    return plain_config(compose(*overrides.split()))


def with_value(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of a configuration that has another value of a dotted key."""
    *groups, last = key.split(".")
    copy: dict[str, Any] = json.loads(json.dumps(config))
    node = copy
    for name in groups:
        node = node[name]
    node[last] = value
    return copy


def another(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 + 3
    if isinstance(value, list):
        return [another(item) for item in value] or ["x"]
    return "x" if value is None else f"{value}x"


@pytest.mark.parametrize("choice", CHOICES)
def test_runs_of_a_cohort_may_differ_in_exactly_the_free_keys(choice: str) -> None:
    config = make_config(choice)
    for key, value in flatten(config).items():
        changed = with_value(config, key, another(value))
        is_same = compatibility_key(changed) == compatibility_key(config)
        switches_on = (value is None and "ema" in key) or (value == 0 and "momentum" in key)
        # Its channels are in groups, which zeros at the end would change.
        in_groups = "r3gan" in choice and key == "model.channels"
        assert is_same == bool(FREE.fullmatch(key) and not switches_on and not in_groups), key


def test_runs_of_different_recipes_do_not_fit_together() -> None:
    recipes = [make_config(choice) for choice in CHOICES if choice.startswith("recipe=")]
    assert len({compatibility_key(recipe) for recipe in recipes}) == len(recipes) == 8


@pytest.mark.parametrize(
    ("one", "other", "fit"),
    [
        ("", "seed=2 optimizer.lr=1 metrics=fast name=other trainer.max_steps=9", True),
        ("", "trainer.max_steps=null trainer.max_epochs=1 penalty.gamma=0", True),
        ("", "model=large", True),
        ("model=dcgan", "model=dcgan_small", True),
        ("", "penalty=r2", False),
        ("", "optimizer=adamw", False),
        ("", "discriminator_optimizer=adam", False),
        ("", "trainer.ema_half_life=100", True),
        ("", "trainer.ema_half_life=null", False),
        ("trainer.ema_half_life=100", "trainer.ema_half_life=9 trainer.ema_ramp_up=0.1", True),
        ("trainer.ema_half_life=100", "trainer.ema_half_life=9 trainer.ema_ramp_up=null", False),
        ("optimizer=sgd", "optimizer=sgd optimizer.momentum=0.9", False),
        ("optimizer=sgd optimizer.momentum=0.1", "optimizer=sgd optimizer.momentum=0.9", True),
        ("", "threads=2", False),
    ],
)
def test_which_pairs_of_runs_fit_into_one_cohort(one: str, other: str, fit: bool) -> None:
    assert (compatibility_key(make_config(one)) == compatibility_key(make_config(other))) == fit


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_widths_must_be_equal_where_a_layer_norm_sees_them(network: str) -> None:
    config = make_config(f"model.{network}_norm=layer")
    wider = with_value(config, "model.hidden_dim", 16)
    assert compatibility_key(config) != compatibility_key(wider)
    assert compatibility_key(config) == compatibility_key(with_value(config, "seed", 9))
