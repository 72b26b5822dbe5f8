"""Composing the many configurations of a sweep, from YAML files that do not change under it."""

import copy
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """Hydra's composition of jobs, in a hundredth of the time.

    What the defaults list decides is composed once for every choice of config groups; plain
    values are set on a copy of it, in their order, as Hydra does.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self._loader = loader
        self._master = master
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self.parse = cache(self._parse)
        self._is_group = cache(lambda key: bool(loader.get_group_options(key)))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job, without Hydra's own part.

        Raises:
            HydraException, OmegaConfBaseException: the overrides do not fit.
        """
        values = [text for text in overrides if self._sets_a_value(self.parse(text))]
        structure = tuple(text for text in overrides if text not in values)
        if structure not in self._composed:
            self._composed[structure] = self._full(structure)
        cfg = copy.deepcopy(self._composed[structure])
        try:
            for text in values:
                override = self.parse(text)
                OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra says best what is wrong.
            return self._full(overrides)
        return cfg

    def _full(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self._loader.load_sweep_config(self._master, list(overrides))
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra")
        OmegaConf.set_struct(cfg, True)
        return cfg

    def _parse(self, text: str) -> Override:
        return OverridesParser.create(config_loader=self._loader).parse_override(text)

    def _sets_a_value(self, override: Override) -> bool:
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        return plain and override.package is None and not self._is_group(override.key_or_group)


def save_sources(loader: ConfigLoader, folder: Path) -> None:
    """Copy every folder of YAML files that the loader reads."""
    shutil.rmtree(folder, ignore_errors=True)
    for index, (_, path) in enumerate(_folders(loader)):
        shutil.copytree(path, folder / str(index), ignore=_not_yaml)


def saved_loader(loader: ConfigLoader, folder: Path) -> ConfigLoader:
    """A loader that reads the copies in place of the folders."""
    search_path = copy.deepcopy(loader.get_search_path())
    for index, (position, _) in enumerate(_folders(loader)):
        search_path.get_path()[position].path = str((folder / str(index)).resolve())
    saved: ConfigLoader = type(loader)(config_search_path=search_path)  # type: ignore[call-arg]
    return saved


def _folders(loader: ConfigLoader) -> list[tuple[int, Path]]:
    """The search path's entries that are folders, with their positions."""
    found = []
    for position, element in enumerate(loader.get_search_path().get_path()):
        path = element.path or ""
        if "://" not in path.removeprefix("file://"):
            found.append((position, Path(path.removeprefix("file://"))))
    return [(position, path) for position, path in found if path.is_dir()]


def _not_yaml(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (name.endswith(".yaml") or Path(folder, name).is_dir())]


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration of a job as plain data."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    container.pop("sweep", None)
    return {str(key): value for key, value in container.items()}
