"""Compose configurations outside `scripts/train.py`, and explain in one line why one cannot be."""

import re
from pathlib import Path

import yaml
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

_GROUPS = (*SCHEMAS, "recipe", "experiment", "hydra/launcher", "hydra/sweeper")
_NO_OPTION = "Config group override must be a string or a list"
_WRONG_VALUES = {
    "converted to Integer": "be a whole number",
    "converted to Float": "be a number",
    "converted to Boolean|valid bool": "be true or false",
    "is not a ListConfig": "be a list, such as [1,2]",
    "is not Optional": "not be null",
    "does not support deletion": "not be removed",
}
"""Pairs of a pattern in OmegaConf's message about a value, and what the value must do."""


def compose(*overrides: str) -> DictConfig:
    """Return the configuration that `scripts/train.py OVERRIDES` would run.

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


def compose_unchecked(overrides: list[str], *, with_hydra: bool = False) -> DictConfig:
    """Return the configuration that Hydra composes, without checking its values.

    Args:
        with_hydra: include Hydra's own part, the key `hydra`.

    Raises:
        HydraException, OmegaConfBaseException: an override does not fit; see `can_explain`.
    """
    hydra, previous = GlobalHydra.instance(), GlobalHydra.instance().hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            return hydra_compose("config", overrides, return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra = previous


def can_explain(error: Exception) -> bool:
    """Return whether Hydra raises such an error for a wrong override."""
    known = isinstance(error, HydraException | OmegaConfBaseException)
    return known or str(error).startswith(_NO_OPTION)


def explain(error: Exception, overrides: list[str]) -> str:
    """Return one line about an error that Hydra raised for these overrides."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        hint = "; close all brackets and quotes, and quote special characters"
        hint = hint if "=" in str(error.override) else ""
        return f"{error.override}: cannot be read as KEY=VALUE{hint}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(str(error.missing_cfg_file))
    if text.startswith(_NO_OPTION):
        # Hydra does not say in which override it read a number or null as the name of an option.
        for group, _, option in (override.partition("=") for override in overrides):
            if group in _GROUPS and not isinstance(yaml.safe_load(option), str):
                return _unknown_option(f"{group}/{option}")
    if found := re.match(r"Could not override '([^']+)'", text):
        return _unknown_key(found[1], overrides)
    if found := re.match(r"Error merging override (.*)", text):
        cause = str(error.__cause__).splitlines()[0]
        wrong = [rule for pattern, rule in _WRONG_VALUES.items() if re.search(pattern, cause)]
        return f"{found[1]}: must {wrong[0]}" if wrong else f"{found[1]}: {cause}"
    if found := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
        return f"{found[1]}: to sweep over several values add --multirun; a list is written [1,2]"
    if found := re.match(r"schema@(\S+) appears more than once", text):
        return f"{found[1]}: takes one option, as in {found[1]}=OPTION"
    lines = [*text.splitlines(), *str(error.__cause__ or "").splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())


def _unknown_option(config_file: str) -> str:
    group, _, option = config_file.removesuffix(".yaml").rpartition("/")
    options = sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
    allowed = f"allowed: {', '.join(options)}" if options else f"there is no group '{group}'"
    return f"{group}={option}: no such option; {allowed}{nearest(option, options)}"


def _unknown_key(name: str, overrides: list[str]) -> str:
    # The options that are chosen decide which keys there are.
    choices = [o for o in overrides if o.partition("=")[0] in _GROUPS and "," not in o]
    of_hydra = name.startswith("hydra.")
    parent, _, leaf = name.rpartition(".")
    cfg = compose_unchecked(choices, with_hydra=of_hydra)
    if of_hydra:
        # Hydra's own values may not resolve here.
        node = OmegaConf.select(cfg, parent)
        known = [f"{parent}.{key!s}" for key in node] if isinstance(node, DictConfig) else []
    else:
        known = [*flatten(cfg), *_GROUPS]
    given = next((o for o in overrides if o.lstrip("+~").startswith(name + "=")), name)
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    if not parent or not siblings:
        hint = nearest(name, known) or f"; there are {', '.join(SCHEMAS)}"
    else:
        hint = nearest(leaf, siblings) or f"; {parent} has {', '.join(siblings)}"
    return f"{given}: unknown key '{name}'{hint}"
