"""Paths in a configuration: absolute in what is stored, and places of data, which may change."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import identifies_run
from gan.config.overrides import as_override, escaped
from gan.config.schema import SCHEMAS, TARGET_GROUPS, settings_of
from gan.errors import UserError
from gan.system.files import expanded


def with_absolute_paths(cfg: DictConfig) -> DictConfig:
    """Return a configuration whose paths mean the same in every working directory."""
    absolute = copy.deepcopy(cfg)
    make_paths_absolute(absolute)
    return absolute


def make_paths_absolute(cfg: DictConfig) -> None:
    """Let the paths of a configuration mean the same in every working directory."""
    for key, path in [*_absolute_paths(partial(OmegaConf.select, cfg))]:
        OmegaConf.update(cfg, key, path)


def make_values_absolute(values: dict[str, Any]) -> None:
    """Let the paths of a configuration as plain data mean the same in every working directory."""

    def find(key: str) -> Any:
        group, _, name = key.partition(".")
        return values.get(group, {}).get(name)

    for key, path in [*_absolute_paths(find)]:
        group, _, name = key.partition(".")
        values[group][name] = path


def with_data_at(cfg: DictConfig, words: Sequence[str]) -> DictConfig:
    """Return the configuration of a run whose data lie somewhere else now.

    Args:
        words: the places as KEY=PATH, such as `data.root=/data`.

    Raises:
        UserError: a key says something else about the data, which would then be other data.
    """
    moved = copy.deepcopy(cfg)
    allowed = [f"data.{name}" for name in _path_settings("data", cfg.data.get("_target_"))]
    for word in words:
        key, _, place = word.partition("=")
        if key not in allowed:
            others = f"allowed: {', '.join(allowed)}" if allowed else "none"
            raise UserError(
                f"{word}: runs are measured on their own data, of which only the place may be "
                f"another ({others}); data=OPTION chooses data for folders and .npz files"
            )
        value = yaml.safe_load(place) if place.startswith("[") else place
        OmegaConf.update(moved, key, escaped(value))
    make_paths_absolute(moved)
    return moved


def flat_with_absolute_paths(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with dotted keys whose paths are absolute."""
    return {**flat, **dict(_absolute_paths(flat.get))}


def overrides_with_absolute_paths(overrides: Sequence[str], flat: Mapping[str, Any]) -> list[str]:
    """Return overrides that name the same files in every working directory.

    Args:
        overrides: may hold `--config-dir=FOLDER` and `--config-path=FOLDER`.
        flat: the configuration that they give, with dotted keys.
    """
    paths = dict(_absolute_paths(flat.get))
    texts = []
    for text in overrides:
        name, equals, value = text.partition("=")
        key = name.lstrip("+")
        if name in ("--config-dir", "--config-path"):
            text = f"{name}={_absolute(value)}"
        elif equals and key in paths:
            text = f"{name}={as_override(paths[key])}"
        texts.append(text)
    return texts


def places_of_data(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that say where data lie, and could be other data for all that is known.

    The content of data identifies a run, and not their place. Paths are absolute here, as
    `with_absolute_paths` leaves them.
    """
    found = {key: flat[key] for key in flat if key.startswith("data.") and identifies_run(key)}
    return {key: value for key, value in found.items() if _is_absolute(value)}


def moved_data(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the places of data that differ between two configurations, with the new values."""
    # A run of an earlier version has its paths as they were written.
    there = places_of_data(flat_with_absolute_paths(old))
    return {
        key: value
        for key, value in places_of_data(new).items()
        if key in there and old[key] != value
    }


def _absolute_paths(find: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of paths, with absolute paths.

    Args:
        find: returns the value of a dotted key, or None.
    """
    for group in (*SCHEMAS, *TARGET_GROUPS):
        for name in _path_settings(group, find(f"{group}._target_")):
            if (value := find(f"{group}.{name}")) is not None:
                yield f"{group}.{name}", _absolute(value)


def _path_settings(group: str, target: str | None) -> list[str]:
    """Return the names of a group's keys that hold paths."""
    if group in SCHEMAS:
        return [field.name for field in fields(SCHEMAS[group]) if "path" in field.metadata]
    # What is wrong with a target is told where it is checked or built.
    with suppress(UserError):
        return [name for name, s in settings_of(group, target).items() if "path" in s.limits]
    return []


def _absolute(value: Any) -> Any:
    # The address of something on the network is no path.
    if isinstance(value, str) and value and "://" not in value:
        return str(Path(expanded(value)).absolute())
    if isinstance(value, str):
        return value
    return [_absolute(item) for item in value] if isinstance(value, Sequence) else value


def _is_absolute(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_absolute, value))
    return isinstance(value, str) and Path(value).is_absolute()
