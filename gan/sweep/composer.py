"""Composing the many configurations of a sweep from YAML files that do not change meanwhile."""

import copy
import hashlib
import io
import pickle
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathElement
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import is_under, plain, typed
from gan.config.compose import (
    asks_hydra,
    can_explain,
    chosen_options,
    explain,
    source_words,
    take_out_hydra,
)
from gan.config.loader import as_given, leaves
from gan.config.overrides import value_as_written, with_quotes
from gan.config.trust import option_files, refuse_untrusted_copies
from gan.errors import UserError
from gan.system.files import write_text

CHECKSUM_FILE = ".checksum"
"""The file in the folder of copies that holds their checksum."""

OF_ONE_JOB = (
    *("hydra.runtime", "hydra.overrides", "hydra.mode"),
    *("hydra.job.override_dirname", "hydra.job.num", "hydra.job.id"),
)
"""Keys of Hydra's own that may differ from job to job."""
Options = tuple[str, ...]
"""Overrides that choose options of config groups, or that add and remove keys."""


class Composer:
    """Composes jobs as Hydra does, in a hundredth of the time.

    The defaults list is composed once for every choice of config groups. Plain values are set on a
    copy of the result, in their order, as Hydra sets them.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig):
        self._loader = loader
        self._master = master
        self._composed: dict[Options, Callable[[], DictConfig]] = {}
        """Functions that return new copies of what was composed."""
        self._choices: dict[Options, dict[str, str]] = {}
        self._asks_hydra: dict[Options, bool] = {}
        """The choices with which some value asks for one of Hydra's own."""
        self.parse, self.keys = cache(self._parse), cache(self._keys)
        self._is_group = cache(lambda key: bool(loader.get_group_options(key)))

    def compose(self, overrides: Sequence[str], number: int = 0) -> DictConfig:
        """Return the configuration of one job, without Hydra's own part.

        Args:
            number: the place of the job among those of a command line, `${hydra:job.num}`.

        Raises:
            UserError: the overrides do not fit, or a value not the function that takes it.
        """
        values, options = self.values(overrides), self.options(overrides)
        try:
            cfg = self._compose_options(options)
        except UserError:
            # Two choices contradict each other. One of the values may decide between them.
            return self._compose_by_hydra(overrides, number)
        # Hydra's way alone finds out whether a changed value leaves a protocol its name.
        if self._asks_hydra[options] or asks_hydra(values) or cfg.metrics.get("protocol"):
            return self._compose_by_hydra(overrides, number)
        try:
            for text in values:
                override = self.parse(text)
                value = value_as_written(cfg, override)
                OmegaConf.update(cfg, override.key_or_group, value, merge=True)
        except (OmegaConfBaseException, ValueError):
            # Hydra's own error says best what is wrong.
            return self._compose_by_hydra(overrides, number)
        return cfg

    def choices(self, overrides: Sequence[str]) -> dict[str, str]:
        """Return the chosen options of the config groups, for overrides that were composed."""
        return self._choices[self.options(overrides)]

    def values(self, overrides: Sequence[str]) -> list[str]:
        """Return the overrides that only set a value."""
        return [text for text in overrides if self._sets_a_value(self.parse(text))]

    def options(self, overrides: Sequence[str]) -> Options:
        """Return the overrides that do not only set a value: mostly they choose an option."""
        return tuple(text for text in overrides if not self._sets_a_value(self.parse(text)))

    def _keys(self, options: Options) -> list[str]:
        """Return the dotted keys that a choice of options has; none if it contradicts itself."""
        try:
            return list(leaves(self._compose_options(options)))
        except UserError:
            return []

    def has_key(self, options: Options, key: str) -> bool:
        """Return whether a choice of options has a key. One that cannot be composed has any."""
        known = self.keys(options)
        return not known or any(is_under(key, [one]) or is_under(one, [key]) for one in known)

    def _compose_options(self, options: Options) -> DictConfig:
        if options not in self._composed:
            self._composed[options] = copier(self._compose_by_hydra(options, 0))
        return self._composed[options]()

    def _compose_by_hydra(self, overrides: Sequence[str], number: int) -> DictConfig:
        try:
            cfg = self._loader.load_sweep_config(self._master, list(overrides))
        except Exception as error:
            if not can_explain(error):
                raise
            words = [*source_words(self._master.hydra), *overrides]
            raise UserError(explain(error, words)) from error
        _refuse_settings_of_sweep(self._master, cfg, self.options(overrides))
        cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
        self._choices[self.options(overrides)] = chosen_options(cfg.hydra)
        values = [value for key, value in leaves(cfg).items() if not is_under(key, ["hydra"])]
        self._asks_hydra[tuple(overrides)] = asks_hydra(values)
        take_out_hydra(cfg)
        return typed(cfg)

    def _parse(self, text: str) -> Override:
        return OverridesParser.create(config_loader=self._loader).parse_override(with_quotes(text))

    def _sets_a_value(self, override: Override) -> bool:
        changes_value = not (override.is_add() or override.is_force_add() or override.is_delete())
        is_group = self._is_group(override.key_or_group)
        return changes_value and override.package is None and not is_group


def copier(cfg: DictConfig) -> Callable[[], DictConfig]:
    """Return a function that returns copies of a configuration, in a fifth of deepcopy's time.

    The pickle stays in memory.
    """
    kinds: list[type] = []

    class Writer(pickle.Pickler):
        # The types of nodes are made while the program runs, so no name leads to them.
        def persistent_id(self, value: Any) -> int | None:
            if not isinstance(value, type):
                return None
            if value not in kinds:
                kinds.append(value)
            return kinds.index(value)

    class Reader(pickle.Unpickler):
        def persistent_load(self, number: int) -> type:
            return kinds[number]

    stream = io.BytesIO()
    Writer(stream).dump(cfg)

    def copied() -> DictConfig:
        stream.seek(0)
        new: DictConfig = Reader(stream).load()
        return new

    return copied


def save_sources(master: DictConfig, folder: Path) -> None:
    """Copy every folder of YAML files that a configuration was composed from."""
    shutil.rmtree(folder, ignore_errors=True)
    files = [source for source in master.hydra.runtime.config_sources if source.schema == "file"]
    # The folder of the sweep may lie below one of them, so look for the files before any is copied.
    options = [(source.path, option_files(Path(source.path))) for source in files]
    for index, (source, paths) in enumerate(options):
        (folder / str(index)).mkdir(parents=True)
        for path in paths:
            copied = folder / str(index) / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copied)
    write_text(folder / CHECKSUM_FILE, _checksum(folder))


def loader_of_copies(loader: ConfigLoader, folder: Path) -> ConfigLoader:
    """Return a loader that reads the copies in place of the original folders.

    Raises:
        UserError: the copies are missing or damaged, or hold what this user does not know.
    """
    checksum = folder / CHECKSUM_FILE
    # Earlier versions wrote no checksum.
    stored = checksum.read_text(encoding="utf-8", errors="replace") if checksum.exists() else None
    if not folder.is_dir() or stored not in (None, _checksum(folder)):
        raise UserError(
            f"{folder}: its YAML files are not those that the sweep began with; restore them, or "
            "choose another hydra.sweep.dir"
        )
    refuse_untrusted_copies(folder)
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


def _refuse_settings_of_sweep(master: DictConfig, own: DictConfig, choices: Sequence[str]) -> None:
    """Refuse options of a job that set what a sweep has once for all jobs, such as the launcher."""
    for group in ("hydra/launcher", "hydra/sweeper"):
        if (option := own.hydra.runtime.choices[group]) != master.hydra.runtime.choices[group]:
            raise UserError(
                f"{' '.join(choices)}: chooses {group}={option}, but a sweep has one for all its "
                f"runs; add {group}=OPTION to the command line"
            )
    given = [text.partition("=")[0].lstrip("+") for text in as_given(master.hydra.overrides.task)]
    before = leaves(master)
    for key, value in leaves(own).items():
        is_of_sweep = is_under(key, ["hydra", "sweep"]) and not is_under(key, [*OF_ONE_JOB, *given])
        if is_of_sweep and before.get(key) != value:
            raise UserError(
                f"{' '.join(choices)}: sets {key}={value}, but a sweep has one value for all its "
                f"runs, {before.get(key)}; set it on the command line"
            )
