"""Every YAML file in conf/ composes, fits the function that it names, and explains its keys."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conf_options import CHOICES, PATHS, composed, with_hydra
from hydra.utils import get_object
from omegaconf import OmegaConf

from gan.config.checks import all_keys, flatten
from gan.config.compose import compose
from gan.config.reference import read_comments
from gan.config.schema import CONF_DIR, GROUPS


def targets(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every node that names a target, with its dotted path."""
    if isinstance(node, dict):
        if node.get("_target_") is not None:
            yield path, node
        for name, value in node.items():
            yield from targets(value, f"{path}.{name}".lstrip("."))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from targets(value, f"{path}.{index}")


def bind(path: str, node: dict[str, Any]) -> None:
    """Bind a node to the signature of its target, as gan.build calls it.

    Raises:
        TypeError: an argument is missing, or there is one too many.
    """
    settings = {name: value for name, value in node.items() if name != "_target_"}
    positional: list[object] = []
    if path == "model":
        settings |= {"image_shape": (1, 28, 28), "classes": 0, "pac": 1}
        del settings["conditional"]
    elif path in ("optimizer", "discriminator_optimizer"):
        positional = ["params"]
    elif path == "schedule":
        settings["total_steps"] = 10
    elif path == "penalty":
        del settings["interval"]
    signature = inspect.signature(get_object(node["_target_"]))
    if path in GROUPS:
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds, "it would bind to anything"
    signature.bind(*positional, **settings)


def test_the_options_of_conf_are_found() -> None:
    assert {choice.partition("=")[0] for choice in CHOICES} >= {*GROUPS, "experiment"}
    assert {"model=base", "optimizer=adam", "experiment=lab"} <= set(CHOICES)


@pytest.mark.parametrize("choice", [None, *CHOICES])
def test_every_option_composes_and_fits_the_signature_of_its_target(choice: str | None) -> None:
    cfg = composed(choice)
    assert OmegaConf.missing_keys(cfg) == set()
    # The settings of a tracker are those of its target, which is bound below.
    others = {name for name in flatten(cfg) if not name.startswith("logging.trackers.")}
    assert others <= set(all_keys())

    plain = OmegaConf.to_container(with_hydra(*[choice] if choice else []), resolve=False)
    nodes = dict(targets(plain))
    assert {"model", "optimizer", "loss", "data", "hydra.callbacks.check"} <= set(nodes)
    for path, node in nodes.items():
        bind(path, node)


def test_a_misspelled_or_missing_argument_does_not_fit() -> None:
    node = {str(name): value for name, value in compose().model.items()}
    with pytest.raises(TypeError, match="hiden_dim"):
        bind("model", node | {"hiden_dim": 3})
    del node["hidden_dim"]
    with pytest.raises(TypeError, match="hidden_dim"):
        bind("model", node)


def named(path: Path) -> str:
    return path.relative_to(CONF_DIR).as_posix()


def leaves(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every value of a YAML file, without the defaults list."""
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        elif name != "defaults":
            yield f"{prefix}{name}"


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_every_key_is_explained_by_a_comment(path: Path) -> None:
    _, comments = read_comments(path)
    keys = list(leaves(yaml.safe_load(path.read_text())))
    assert [key for key in keys if not comments.get(key)] == []
    assert [text for text in comments.values() if text and not text.endswith(".")] == []


@pytest.mark.parametrize("path", PATHS, ids=named)
def test_every_file_begins_by_saying_what_it_is(path: Path) -> None:
    about, _ = read_comments(path)
    assert re.fullmatch(r"[^ ].+\.", about)
