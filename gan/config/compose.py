"""Composing the configuration outside `scripts/train.py`, and saying what is wrong with it."""

import re
from pathlib import Path

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import check, flatten
from gan.config.schema import SCHEMAS
from gan.errors import UserError, nearest

CONF_DIR = Path(__file__).resolve().parents[2] / "conf"

_NO_OPTION = "Config group override must be a string or a list"
_KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def compose(*overrides: str) -> DictConfig:
    """The configuration that `scripts/train.py OVERRIDES` would run, for use as a library.

    Raises:
        UserError: an override names no key, or its value has the wrong type or range.
    """
    try:
        cfg = compose_unchecked(list(overrides))
    except Exception as error:
        if not can_explain(error):
            raise
        raise UserError(explain(error, list(overrides))) from error
    check(cfg)
    return cfg


def can_explain(error: Exception) -> bool:
    """Whether Hydra raises this for a wrong override."""
    known = isinstance(error, HydraException | OmegaConfBaseException)
    return known or str(error).startswith(_NO_OPTION)


def explain(error: Exception, overrides: list[str]) -> str:
    """One line for an error that Hydra raised on these overrides."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as KEY=VALUE ({text.splitlines()[0].strip()})"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(str(error.missing_cfg_file))
    if text.startswith(_NO_OPTION):
        given = next(o for o in overrides if o.partition("=")[0] in SCHEMAS and o.endswith("=null"))
        return _unknown_option(given.replace("=", "/"))
    if found := re.match(r"Could not override '([^']+)'", text):
        return _unknown_key(found[1], overrides)
    if found := re.match(r"Error merging override (.*)", text):
        cause = str(error.__cause__).splitlines()[0]
        kind = re.search(r"could not be converted to (\w+)", cause)
        return f"{found[1]}: " + (f"must be {_KINDS.get(kind[1], kind[1])}" if kind else cause)
    if found := re.match(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: to sweep over several values add --multirun; a list is written [1,2]"
    lines = [*text.splitlines(), *str(error.__cause__ or "").splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())


def compose_unchecked(overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    """What Hydra composes, or what it raises; ranges are not looked at."""
    hydra, previous = GlobalHydra.instance(), GlobalHydra.instance().hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return hydra_compose("config", overrides, return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = previous


def _unknown_option(config_file: str) -> str:
    group, _, option = config_file.removesuffix(".yaml").rpartition("/")
    options = sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
    allowed = f"allowed: {', '.join(options)}" if options else f"there is no group '{group}'"
    return f"{group}={option}: no such option; {allowed}{nearest(option, options)}"


def _unknown_key(name: str, overrides: list[str]) -> str:
    # The groups chosen beside it decide which keys there are.
    groups = [*SCHEMAS, "recipe", "experiment"]
    of_hydra = name.startswith("hydra.")
    if of_hydra:
        groups = ["hydra/launcher", "hydra/sweeper"]
    choices = [o for o in overrides if o.partition("=")[0] in groups and "," not in o]
    cfg = compose_unchecked(choices, with_hydra=of_hydra)
    known = _names(cfg, name.rpartition(".")[0]) if of_hydra else [*flatten(cfg), *groups]
    given = next((o for o in overrides if o.lstrip("+~").startswith(name + "=")), name)
    parent, _, leaf = name.rpartition(".")
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    if not parent or not siblings:
        hint = nearest(name, known) or f"; there are {', '.join(SCHEMAS)}"
    else:
        hint = nearest(leaf, siblings) or f"; {parent} has {', '.join(siblings)}"
    return f"{given}: unknown key '{name}'{hint}"


def _names(cfg: DictConfig, parent: str) -> list[str]:
    """The keys below a node, as dotted names; without their values, which may not resolve."""
    node = OmegaConf.select(cfg, parent)
    return [f"{parent}.{name!s}" for name in node] if isinstance(node, DictConfig) else []
