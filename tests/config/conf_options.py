"""All options of conf/, composed once for every test."""

import functools

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig

from gan.config.compose import compose
from gan.config.loader import VERSION_BASE
from gan.config.schema import CONF_DIR, GROUPS

PATHS = sorted(CONF_DIR.rglob("*.yaml"))

CHOICES = [
    f"{path.parent.relative_to(CONF_DIR).as_posix()}={path.stem}"
    for path in PATHS
    if path.parent != CONF_DIR
]
"""Every option as the override that chooses it, such as "model=base"."""

OPTIONS = [choice for choice in CHOICES if choice.partition("=")[0] in GROUPS]
"""The options of the groups that have schemas."""

MANDATORY = {"data=image_folder": ["data.folder=images"]}
"""Values for keys that have no default, by the option that has them."""


@functools.cache
def composed(choice: str | None) -> DictConfig:
    """Return a checked configuration with this option. Tests must not change it."""
    return compose(choice, *MANDATORY.get(choice, [])) if choice else compose()


def with_hydra(*overrides: str) -> DictConfig:
    """Return the whole configuration, Hydra's own part included."""
    with initialize_config_dir(str(CONF_DIR), **VERSION_BASE):
        return hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
