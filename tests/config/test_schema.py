"""Schemas hold the types and ranges of all keys, and no defaults."""

import copy
from dataclasses import MISSING as NOTHING
from dataclasses import fields
from typing import Any

import pytest
from conf_options import OPTIONS, composed
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from gan.config.schema import SCHEMAS, Config


@pytest.mark.parametrize("choice", OPTIONS)
def test_every_option_has_a_schema(choice: str) -> None:
    group = choice.partition("=")[0]
    assert OmegaConf.get_type(composed(choice)[group]) in SCHEMAS[group].values()


@pytest.mark.parametrize("group", SCHEMAS)
def test_every_schema_has_an_option(group: str) -> None:
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


def test_every_group_has_schemas() -> None:
    groups = [entry.name for entry in fields(Config) if entry.type is Any]
    assert groups == list(SCHEMAS)


def test_the_store_gives_copies_of_schemas() -> None:
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    first, second = (store.load("schema/trainer.yaml").node for _ in range(2))
    first.max_steps = 5
    assert OmegaConf.is_missing(second, "max_steps")
