"""Schemas hold the types and ranges of all keys, and no defaults."""

import copy
from dataclasses import MISSING as NOTHING
from dataclasses import fields, is_dataclass

import pytest
from conf_options import OPTIONS, composed
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from gan.config.schema import GROUPS, SCHEMAS, TARGET_GROUPS, Config


@pytest.mark.parametrize("choice", OPTIONS)
def test_every_key_of_every_option_has_a_type(choice: str) -> None:
    group = choice.partition("=")[0]
    node = composed(choice)[group]
    schema = OmegaConf.get_type(node)
    assert is_dataclass(schema)
    assert [entry.name for entry in fields(schema)] == list(node)


@pytest.mark.parametrize("schema", [Config, *SCHEMAS.values()])
def test_schemas_hold_no_defaults(schema: type) -> None:
    for entry in fields(schema):
        assert entry.default == MISSING, entry.name
        assert entry.default_factory is NOTHING, entry.name


def test_every_group_names_a_target_or_has_a_schema() -> None:
    assert set(GROUPS) == {*TARGET_GROUPS, *SCHEMAS}


def test_the_store_gives_copies_of_schemas() -> None:
    store = ConfigStore.instance()
    assert copy.deepcopy(store) is store
    first, second = (store.load("schema/trainer.yaml").node for _ in range(2))
    first.max_steps = 5
    assert OmegaConf.is_missing(second, "max_steps")
