"""Checks of a composed configuration, and which of its keys decide a run's result."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.schema import SCHEMAS, Config
from gan.errors import UserError, nearest
from gan.metrics.catalogue import METRICS

RESULT_FREE = (
    "device",
    "threads",
    "name",
    "tags",
    "notes",
    "logging",
    "data.root",
    "trainer.compile",
    "trainer.cuda_graphs",
    "trainer.profile",
    "metrics.cache",
    "sweep",
)
"""Keys that do not change a run's result, except by rounding. They may differ when it resumes."""


def check(cfg: DictConfig) -> None:
    """Check the range of every key, and rules that involve several keys.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    check_ranges(cfg)
    steps, epochs = cfg.trainer.max_steps, cfg.trainer.max_epochs
    if (steps is None) == (epochs is None):
        both = "neither is" if steps is None else "both are"
        raise UserError(
            f"trainer.max_steps={_show(steps)} trainer.max_epochs={_show(epochs)}: {both} set; "
            "give one of them a number and the other null"
        )
    for group in ("optimizer", "discriminator_optimizer"):
        if cfg[group].get("nesterov") and cfg[group].momentum == 0:
            raise UserError(f"{group}.nesterov=true: needs {group}.momentum above 0")
    if cfg.trainer.batch_size % cfg.trainer.pac:
        raise UserError(
            f"trainer.pac={cfg.trainer.pac}: must divide trainer.batch_size="
            f"{cfg.trainer.batch_size}"
        )
    if cfg.trainer.pac > 1 and cfg.model.conditional:
        raise UserError(
            f"trainer.pac={cfg.trainer.pac}: not with model.conditional=true, as the samples of a "
            "pack would need one label"
        )
    objective, names = cfg.metrics.objective, cfg.metrics.names
    if objective in METRICS and objective not in names:
        raise UserError(f"metrics.objective={objective}: must be in metrics.names={_show(names)}")


def doubts(cfg: DictConfig) -> list[str]:
    """Return warnings about settings that are allowed but rarely intended, one line each."""
    penalty = (cfg.penalty._target_ or "none").rpartition(".")[2]
    found = []
    if cfg.loss._target_.endswith(".wasserstein") and not (
        penalty != "none" or cfg.model.get("discriminator_spectral_norm")
    ):
        found.append(
            "loss=wasserstein bounds a distance only for a Lipschitz discriminator: set "
            "penalty=wgan_gp, penalty=weight_clip or model.discriminator_spectral_norm=true"
        )
    if cfg.model.get("discriminator_norm") == "batch" and penalty not in ("none", "weight_clip"):
        found.append(
            f"model.discriminator_norm=batch with penalty={penalty}: the penalty is of the "
            "gradient at one sample, which batch norm mixes with the others; layer or none fit"
        )
    return found


def check_ranges(cfg: DictConfig, prefix: str = "") -> None:
    """Check the range of every key below a typed node.

    Args:
        prefix: put before the keys' names in errors.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    for path, value, limits in _limited_keys(cfg, prefix):
        for item in value if isinstance(value, ListConfig) else [value]:
            if problem := _outside(item, limits):
                raise UserError(f"{path}={_show(value)}: must {problem}")
        if "length" in limits and len(value) != limits["length"]:
            raise UserError(f"{path}={_show(value)}: must hold {limits['length']} values")


def flatten(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return the resolved configuration with dotted keys, such as `{"optimizer.lr": 2e-4}`.

    Lists stay whole. Plain data must be resolved already.
    """

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    container = cfg if isinstance(cfg, dict) else OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return dict(walk({str(name): node for name, node in container.items() if name != "hydra"}, ""))


def defines_result(key: str) -> bool:
    """Return whether another value of this (dotted) key may give a run other weights."""
    return not is_under(key, RESULT_FREE)


def is_under(key: str, names: Iterable[str]) -> bool:
    """Return whether a dotted key is one of `names`, or below one of them."""
    return any(key == name or key.startswith(name + ".") for name in names)


def all_keys() -> list[str]:
    """Return every dotted key that some choice of config groups has."""
    names: dict[str, None] = {}
    for entry in fields(Config):
        schemas = SCHEMAS.get(entry.name)
        for schema in schemas.values() if schemas else ():
            names |= dict.fromkeys(f"{entry.name}.{part.name}" for part in fields(schema))
        if schemas is None:
            names[entry.name] = None
    return list(names)


def _limited_keys(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield every value that is not null, as (dotted key, value, limits)."""
    schema = OmegaConf.get_type(cfg)
    # A configuration that was read back from a file has lost its types. It was checked before.
    limits = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else None
    for name in limits or ():
        if OmegaConf.is_missing(cfg, name):
            raise UserError(f"{prefix}{name}: must be set, as in {prefix}{name}=VALUE")
        if name not in cfg:
            raise UserError(f"{prefix}{name}: must not be removed")
    for name in map(str, cfg):
        path = f"{prefix}{name}"
        if path == "hydra":
            continue
        if limits is not None and name not in limits:
            raise UserError(f"{path}: unknown key{nearest(name, limits)}")
        try:
            value = cfg[name]
        except OmegaConfBaseException as error:
            raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
        if isinstance(value, DictConfig):
            yield from _limited_keys(value, f"{path}.")
        elif value is not None:
            yield path, value, dict(limits[name]) if limits else {}


def _outside(value: Any, limits: dict[str, Any]) -> str | None:
    """Return what the value must do, to be read after the word "must"; None if it is in range."""
    if "choices" in limits and value not in limits["choices"]:
        choices = [str(choice) for choice in limits["choices"]]
        return f"be one of {', '.join(choices)}" + nearest(str(value), choices)
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        return f"match {limits['pattern'].replace('|', ' | ')}"
    if isinstance(value, float) and math.isinf(value):
        return "be finite"
    # These are written so that NaN, which compares false to everything, is outside too.
    if "min" in limits and not value >= limits["min"]:
        return f"be at least {limits['min']}"
    if "above" in limits and not value > limits["above"]:
        return f"be above {limits['above']}"
    if "below" in limits and not value < limits["below"]:
        return f"be below {limits['below']}"
    return None


def _show(value: Any) -> str:
    if isinstance(value, ListConfig):
        return "[" + ",".join(_show(item) for item in value) + "]"
    return "null" if value is None else str(value)
