"""Composing the many configurations of a sweep from YAML files that do not change meanwhile."""

import copy
import hashlib
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathElement
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import plain, typed
from gan.config.compose import chosen_options
from gan.errors import UserError
from gan.files import write_text

CHECKSUM_FILE = ".checksum"
"""The file in the folder of copies that holds their checksum."""


class Composer:
    """Composes jobs as Hydra does, in a hundredth of the time.

    The defaults list is composed once for every choice of config groups. Plain values are set on a
    copy of the result, in their order, as Hydra sets them.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self._loader = loader
        self._master = master
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._choices: dict[tuple[str, ...], dict[str, str]] = {}
        self.parse = cache(self._parse)
        self._is_group = cache(lambda key: bool(loader.get_group_options(key)))

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return the configuration of one job, without Hydra's own part.

        Raises:
            HydraException, OmegaConfBaseException: the overrides do not fit.
            UserError: a value does not fit the function that takes it.
        """
        values = [text for text in overrides if self._sets_a_value(self.parse(text))]
        structure = self._structure(overrides)
        if structure not in self._composed:
            try:
                self._composed[structure] = self._compose_by_hydra(structure)
            except UserError:
                # Two choices contradict each other. One of the values may decide between them.
                return self._compose_by_hydra(overrides)
        cfg = copy.deepcopy(self._composed[structure])
        try:
            for text in values:
                override = self.parse(text)
                OmegaConf.update(cfg, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra's own error says best what is wrong.
            return self._compose_by_hydra(overrides)
        return cfg

    def choices(self, overrides: Sequence[str]) -> dict[str, str]:
        """Return the chosen options of the config groups, for overrides that were composed."""
        return self._choices[self._structure(overrides)]

    def _structure(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides that do not only set a value."""
        return tuple(text for text in overrides if not self._sets_a_value(self.parse(text)))

    def _compose_by_hydra(self, overrides: Sequence[str]) -> DictConfig:
        cfg = self._loader.load_sweep_config(self._master, list(overrides))
        OmegaConf.set_struct(cfg, False)
        self._choices[tuple(overrides)] = chosen_options(cfg.pop("hydra"))
        OmegaConf.set_struct(cfg, True)
        return typed(cfg)

    def _parse(self, text: str) -> Override:
        return OverridesParser.create(config_loader=self._loader).parse_override(text)

    def _sets_a_value(self, override: Override) -> bool:
        changes_value = not (override.is_add() or override.is_force_add() or override.is_delete())
        is_group = self._is_group(override.key_or_group)
        return changes_value and override.package is None and not is_group


def save_sources(master: DictConfig, folder: Path) -> None:
    """Copy every folder of YAML files that a configuration was composed from."""
    shutil.rmtree(folder, ignore_errors=True)
    files = [source for source in master.hydra.runtime.config_sources if source.schema == "file"]
    for index, source in enumerate(files):
        shutil.copytree(source.path, folder / str(index), ignore=_other_files)
    write_text(folder / CHECKSUM_FILE, _checksum(folder))


def loader_of_copies(loader: ConfigLoader, folder: Path) -> ConfigLoader:
    """Return a loader that reads the copies in place of the original folders.

    Raises:
        UserError: the copies are missing or damaged.
    """
    checksum = folder / CHECKSUM_FILE
    # Earlier versions wrote no checksum.
    stored = checksum.read_text(encoding="utf-8", errors="replace") if checksum.exists() else None
    if not folder.is_dir() or stored not in (None, _checksum(folder)):
        raise UserError(
            f"{folder}: its YAML files are not those that the sweep began with; restore them, or "
            "choose another hydra.sweep.dir"
        )
    search_path = copy.deepcopy(loader.get_search_path())
    elements = search_path.get_path()
    copies = sorted(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    not_files = ("pkg://", "structured://")
    others = [element for element in elements if (element.path or "").startswith(not_files)]
    # Hydra's own files come first, and the schemas last.
    ours = [SearchPathElement("sweep", f"file://{path.resolve()}") for path in copies]
    elements[:] = [*others[:1], *ours, *others[1:]]
    reader: ConfigLoader = type(loader)(config_search_path=search_path)  # type: ignore[call-arg]
    return reader


def plain_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration of a job as plain data, without the group `sweep`."""
    config = plain(cfg)
    config.pop("sweep", None)
    return config


def _checksum(folder: Path) -> str:
    """Return a hash of the names and contents of all YAML files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.yaml")):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest() + "\n"


def _other_files(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (name.endswith(".yaml") or Path(folder, name).is_dir())]
