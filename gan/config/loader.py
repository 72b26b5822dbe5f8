"""Loading configurations so that the command line overrides an experiment.

Hydra merges an experiment over the options of groups, whoever chose them: `experiment=lab
recipe=wgan_gp` would train with the loss of the lab. The loader of this module reads the files of
an experiment without the settings that a choice on the command line replaces. Then it compares what
the command line chose with what was composed, whichever files that came from.
"""

import copy
import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hydra.utils
from hydra._internal import defaults_list
from hydra._internal import hydra as hydra_program
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.default_element import GroupDefault, InputDefault, ResultDefault
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from gan.config.checks import is_under
from gan.config.overrides import takes_any_text, value_as_written, with_quotes
from gan.config.schema import PROTOCOL
from gan.config.spaces import keys_of, parse_for_hydra, read_dimension, texts_of
from gan.errors import UserError
from gan.system.files import expanded

VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}
"""The argument that chooses Hydra's defaults. Hydra 1.4 knows no others, and warns of it."""
PARAMS = "hydra.sweeper.params"
"""The key below which an experiment may sweep over keys and groups."""
NOT_OF_PROTOCOL = ("metrics.every", "metrics.cache", "metrics.objective", "features.weights")
"""Keys that a protocol may set and that may differ: no measured value depends on them. Of the file
of weights, the hash counts."""


class Loader(ConfigLoaderImpl):
    """Hydra's loader, except that a choice on the command line overrides an experiment."""

    _swept_by_config: frozenset[str] = frozenset()
    """Keys and groups that the configuration sweeps over, and the command line does not name."""
    _run_mode = RunMode.RUN
    _protocol: tuple[str, dict[str, Any]] | None = None
    """The chosen protocol, and its settings by their dotted keys."""

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the configuration of one job of a sweep."""
        given_overrides = master_config.hydra.overrides
        texts = [*as_given(given_overrides.task), *as_given(given_overrides.hydra)]
        given = {key for text in texts for key in keys_of(text)}
        params = {} if PARAMS in given else OmegaConf.select(master_config, PARAMS) or {}
        loader = copy.copy(self)
        loader._swept_by_config = frozenset(
            key
            for text in texts_of(params)
            for key in keys_of(text)
            if not given & {key, f"{PARAMS}.{text.partition('=')[0]}"}
        )
        quoted = [with_quotes(text) for text in sweep_overrides]
        return super(Loader, loader).load_sweep_config(master_config, quoted)

    def parse_overrides(
        self, config_name: str | None, overrides: list[str], **others: Any
    ) -> list[Override]:
        """Return the parsed overrides. Hydra 1.4 calls this, and Hydra 1.3 does not have it."""
        hydras_own: Any = super()
        pairs = parse_for_hydra(overrides)
        quoted = [with_quotes(text) for text, _ in pairs]
        parsed: list[Override] = hydras_own.parse_overrides(config_name, quoted, **others)
        return _with_given_texts(parsed, pairs)

    def _load_configuration_impl(self, *values: Any, **named: Any) -> DictConfig:
        """Return the configuration that overrides give, with Hydra's own part.

        Hydra always names its arguments here, and has more of them in 1.4 than in 1.3.
        """
        before, self._run_mode = self._run_mode, named["run_mode"]
        self._protocol = None
        try:
            cfg = super()._load_configuration_impl(*values, **named)
        finally:
            self._run_mode = before
        _allow_targets(cfg)
        _name_protocol(cfg, self._protocol)
        texts = as_given(cfg.hydra.overrides.task)
        if any(map(read_dimension, texts)):
            # A zip is there once for each of its keys.
            cfg.hydra.overrides.task = [text for text, _ in itertools.groupby(texts)]
        for key in ("run", "sweep"):
            path = leaves(cfg.hydra[key])["dir"]
            if not path:
                raise UserError(f"hydra.{key}.dir=: must be the path of a directory")
            OmegaConf.update(cfg, f"hydra.{key}.dir", expanded(path))
        folder = cfg.hydra.output_subdir
        if folder is not None and (Path(folder).name != str(folder) or folder in ("", "..")):
            raise UserError(
                f"hydra.output_subdir={folder}: must be the name of a folder inside the run's "
                "directory, or null"
            )
        return cfg

    @staticmethod
    def validate_sweep_overrides_legal(
        overrides: list[Override], run_mode: RunMode, from_shell: bool
    ) -> None:
        """Do nothing yet: `_prepare` does it where the types of the keys are known."""

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str], *parsed_overrides: Any
    ) -> tuple[list[Override], CachingConfigRepository]:
        pairs = parse_for_hydra(overrides)
        quoted = [with_quotes(text) for text, _ in pairs]
        parsed, files = super()._parse_overrides_and_create_caching_repo(
            config_name, quoted, *parsed_overrides
        )
        if not parsed_overrides:
            parsed = _with_given_texts(parsed, pairs)
        choices = _read_choices(parsed, files, self._swept_by_config)
        return parsed, _Files(files, choices, parsed)

    def _compose_config_from_defaults_list(
        self, defaults: list[ResultDefault], repo: IConfigRepository
    ) -> DictConfig:
        assert isinstance(repo, _Files)
        repo.choices.refuse_misfit()
        cfg: DictConfig = super()._compose_config_from_defaults_list(defaults, repo)
        for default in defaults:
            group, _, name = str(default.config_path).partition("/")
            # A protocol that another one extends comes before it.
            if group == "protocol":
                self._protocol = name, repo.choices.protocol_settings(repo, name)
        if asked := repo.choices.asked():
            composed = leaves(cfg)
            for key, (value, choice) in asked.items():
                if key not in composed:
                    raise UserError(
                        f"{choice}: sets {key}, which is not there, as another option was taken"
                    )
                if not _is_same(composed[key], value):
                    rival = self._last_to_set(key, defaults, repo)
                    raise UserError(
                        f"{choice}: sets {key}={value}, but {rival} makes it {composed[key]}; "
                        f"add {key}=VALUE, or leave out one of both"
                    )
        for override in repo.overrides:
            self._prepare(override, cfg, is_group=repo.group_exists(override.key_or_group))
        return cfg

    def _prepare(self, override: Override, cfg: DictConfig, *, is_group: bool) -> None:
        """Prepare an override for Hydra, which sets its value after the defaults list.

        A text is taken as it is written, with its commas where there is nothing to sweep over.
        """
        key, is_sweep = override.key_or_group, override.is_sweep_override()
        is_one = self._run_mode is RunMode.RUN or override.is_hydra_override()
        if is_sweep and not (is_one and not is_group and takes_any_text(cfg, key)):
            ConfigLoaderImpl.validate_sweep_overrides_legal([override], self._run_mode, False)
        elif is_sweep:
            # Hydra passes over it, because it has seen a sweep.
            OmegaConf.update(cfg, key, value_as_written(cfg, override))
        elif not (is_group or override.is_delete()):
            _check_place_in_list(override, cfg)
            override._value = value_as_written(cfg, override)
            if self._run_mode is RunMode.MULTIRUN and not is_under(key, ["hydra", "sweep"]):
                # Each run of a sweep is checked with its own options, which may have the key.
                override.type = OverrideType.FORCE_ADD

    def _last_to_set(self, key: str, defaults: list[ResultDefault], repo: IConfigRepository) -> str:
        """Return the choice that decides the value of a key."""
        for default in reversed(defaults):
            if key in leaves(self._load_single_config(default, repo).config):
                name, parent = _name(str(default.config_path)), str(default.parent)
                return f"{name} of {_name(parent)}" if parent.startswith("experiment/") else name
        return "another option"


def _check_place_in_list(override: Override, cfg: DictConfig) -> None:
    """Refuse a key below a list that is no number, at which OmegaConf raises a ValueError.

    Raises:
        UserError: names the list.
    """
    name, _, last = override.key_or_group.rpartition(".")
    node = OmegaConf.select(cfg, name, throw_on_resolution_failure=False) if name else None
    if isinstance(node, ListConfig) and not last.isdecimal():
        text = override.input_line or override.key_or_group
        raise UserError(f"{text}: {name} is a list, whose values are {name}.0, {name}.1, ...")


def as_given(overrides: Any) -> list[str]:
    """Return overrides in `hydra.overrides` as the user gave them, their interpolations too."""
    texts: Any = OmegaConf.to_container(overrides, resolve=False)
    return [str(text) for text in texts]


def _with_given_texts(
    parsed: Sequence[Override], pairs: Sequence[tuple[str, str]]
) -> list[Override]:
    """Return overrides that know the texts that the user gave, where Hydra could not read these."""
    for override, (text, given) in zip(parsed, pairs, strict=True):
        if text != given:
            override.input_line = given
    return list(parsed)


def use_loader() -> None:
    """Let everything in this process that composes by Hydra use the loader of this module."""
    hydra_program.ConfigLoaderImpl = Loader  # type: ignore[attr-defined]
    if _all_choices:
        patched: Any = defaults_list
        patched._create_interpolation_map = _choices_for_interpolations


_all_choices: Any = getattr(defaults_list, "_create_interpolation_map", None)
"""Hydra's function that collects choices. Hydra 1.4 has none, as it collects what is asked for."""


def _choices_for_interpolations(
    overrides: Any, defaults: list[InputDefault], self_added: bool
) -> DictConfig:
    """Return the choices so far, for entries of a defaults list that name others.

    Hydra collects them for every file, which took a sixth of the time of a composition.
    """
    if any(default.is_interpolation() for default in defaults if not default.is_self()):
        choices: DictConfig = _all_choices(overrides, defaults, self_added)
        return choices
    return DictConfig({})


def _allow_targets(cfg: DictConfig) -> None:
    """Let Hydra call what its own part of a configuration names: callbacks and classes of logging.

    Hydra 1.4 warns of targets that nobody allowed. A configuration from somebody else is checked
    before it is composed, see `gan.config.trust`.
    """
    if allow := getattr(hydra.utils, "execution_whitelist", None):
        names = ("_target_", "class", "()")
        found = leaves(cfg.hydra).items()
        allow([str(v) for key, v in found if v and key.rpartition(".")[2] in names]).__enter__()


def _name_protocol(cfg: DictConfig, protocol: tuple[str, dict[str, Any]] | None) -> None:
    """Give a configuration the name of the protocol that it keeps to, and no other one.

    Raises:
        UserError: somebody gave it a name himself.
    """
    given = OmegaConf.select(cfg, PROTOCOL)
    if given is not None and given != (protocol and protocol[0]):
        raise UserError(f"{PROTOCOL}={given}: follows from protocol=NAME; choose that instead")
    if protocol is None:
        return
    name, settings = protocol
    found = leaves(cfg)
    changed = [key for key, value in settings.items() if not _is_same(found.get(key), value)]
    for key in changed[:1]:
        is_now, was = ("null" if v is None else v for v in (found.get(key), settings[key]))
        _print_once(
            f"protocol={name}: {key} is {is_now}, and {was} in the protocol, so what is measured "
            "does not carry its name"
        )
    OmegaConf.update(cfg, PROTOCOL, None if changed else name)


@dataclass
class _Settings:
    """The settings of a YAML file and of those that it extends."""

    options: dict[str, Any] = field(default_factory=dict)
    """The option of each group that it overrides."""
    values: dict[str, Any] = field(default_factory=dict)
    """The value of each dotted key, with interpolations as they are written."""


@dataclass
class _Choices:
    """Options of groups that the command line chooses, and the settings in their files."""

    options: dict[str, str] = field(default_factory=dict)
    """The choice of each group, such as "model=large", by the key that the group sets."""
    settings: dict[str, _Settings] = field(default_factory=dict)
    """The settings of these options, by the same key."""
    recipe: _Settings = field(default_factory=_Settings)
    recipe_options: dict[str, _Settings] = field(default_factory=dict)
    """The settings of the options that the recipe chooses, by key."""
    experiment: _Settings = field(default_factory=_Settings)
    experiment_options: dict[str, _Settings] = field(default_factory=dict)
    """The settings of the options that the experiment chooses, by key."""
    names: dict[str, str] = field(default_factory=dict)
    """The choices of the groups `recipe` and `experiment`, such as "recipe=lab"."""
    keys: list[str] = field(default_factory=list)
    """Keys that the command line sets itself."""
    protocol: _Settings = field(default_factory=_Settings)
    has_recipe: bool = False
    """The command line chooses the recipe. One that an experiment sweeps over counts less."""

    def replaced_in_experiment(self, key: str) -> str | None:
        """Return the choice that replaces a key of an experiment, if there is one."""
        name = key.removeprefix(f"{PARAMS}.")
        for group, settings in (self.recipe_options | self.settings).items():
            # A sweep goes on over the keys that the chosen option has.
            is_swept = name != key and (name == group or _has(settings, name))
            if is_under(name, [group]) and not is_swept:
                return self.options.get(group) or self.names["recipe"]
        is_in_recipe = self.has_recipe and is_under(key, self.recipe.values)
        return self.names["recipe"] if is_in_recipe else None

    @staticmethod
    def protocol_settings(files: IConfigRepository, name: str) -> dict[str, Any]:
        """Return the settings of a protocol and of the options that it chooses, by dotted keys."""
        own = _read_option(files, "protocol", name)
        chosen = [_read_option(files, group, option) for group, option in own.options.items()]
        values = {key: value for settings in chosen for key, value in settings.values.items()}
        return {
            key: value
            for key, value in (values | own.values).items()
            if not is_under(key, NOT_OF_PROTOCOL)
        }

    def replaced_in_recipe(self, key: str) -> str | None:
        """Return the choice that replaces a key of a recipe, if there is one.

        A recipe that the command line chooses, or that a sweep tries, sets keys of the options
        beside it. Only keys of an option that the recipe chose itself go with this option.
        """
        chosen = "recipe" in self.names
        for group, settings in self.settings.items():
            stays = _has(settings, key) or group not in self.recipe_options
            if is_under(key, [group]) and not (chosen and stays):
                return self.options[group]
        return None

    def refuse_misfit(self) -> None:
        """Refuse a recipe that sets keys which an option beside it does not have.

        Raises:
            UserError: names the key, the recipe and the option.
        """
        options = {
            group: (settings, f"the {group} of {self.names['experiment']}")
            for group, settings in self.experiment_options.items()
        }
        options |= {group: (self.settings[group], text) for group, text in self.options.items()}
        for group, (settings, owner) in options.items():
            for key in self.recipe.values if group not in self.recipe_options else ():
                if (
                    is_under(key, [group])
                    and not _has(settings, key)
                    and not self.replaced_in_recipe(key)
                ):
                    raise UserError(
                        f"{self.names['recipe']}: sets {key}, which {owner} does not have; choose "
                        f"another one, as in {group}=OPTION, or leave out one of both"
                    )

    def asked(self) -> dict[str, tuple[Any, str]]:
        """Return the value of each key that was chosen, and the choice that sets it."""
        recipe, experiment = self.names.get("recipe", ""), self.names.get("experiment", "")
        of_recipe = [
            (recipe, key, value)
            for key, value in self.recipe.values.items()
            if not self.replaced_in_recipe(key)
        ]
        of_experiment = [
            (experiment, key, value)
            for key, value in self.experiment.values.items()
            # A protocol overrides an experiment.
            if not (self.replaced_in_experiment(key) or key in self.protocol.values)
        ]
        of_options = [
            (self.options.get(group, recipe), key, value)
            for group, settings in (self.recipe_options | self.settings).items()
            for key, value in settings.values.items()
        ]
        # The last one counts.
        if self.has_recipe:
            found = [*of_experiment, *of_options, *of_recipe]
        else:
            found = [*of_options, *of_recipe, *of_experiment]
        return {
            key: (value, choice)
            for choice, key, value in found
            if value != "???" and not is_under(key, [*self.keys, "hydra"])
        }


class _Files(CachingConfigRepository):
    """The YAML files as far as no choice on the command line replaces their settings."""

    def __init__(
        self, files: CachingConfigRepository, choices: _Choices, overrides: list[Override]
    ):
        # The base class would copy what is made for it alone.
        self.delegate, self.cache, self.choices = files, {}, choices
        self.overrides = overrides

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return the content of a file."""
        if config_path not in self.cache:
            self.cache[config_path] = self._load(config_path)
        return self.cache[config_path]

    def _load(self, config_path: str) -> ConfigResult | None:
        loaded = self.delegate.load_config(config_path)
        folder = config_path.partition("/")[0]
        if loaded is None or loaded.header["package"] != "_global_":
            return loaded
        if folder == "experiment":
            return self._without(loaded, config_path, self.choices.replaced_in_experiment)
        if folder == "recipe":
            return self._without(loaded, config_path, self.choices.replaced_in_recipe)
        return loaded

    def _without(
        self, loaded: ConfigResult, config_path: str, replaced: Callable[[str], str | None]
    ) -> ConfigResult:
        """Return the content of a file without the settings that a choice replaces."""
        values = leaves(loaded.config)
        dropped = {key: choice for key in values if (choice := replaced(key))}
        loaded = copy.copy(loaded)
        if dropped:
            asked = self.choices.asked()
            for choice in dict.fromkeys(dropped.values()):
                keys = [
                    key
                    for key in dropped
                    if dropped[key] == choice
                    and not is_under(key, self.choices.keys)
                    and not _is_same(asked.get(key, (None,))[0], values[key])
                ]
                if keys:
                    _print_once(f"{choice} replaces {', '.join(keys)} of {_name(config_path)}")
            loaded.config = OmegaConf.create(_pruned(_plain(loaded.config), dropped))
        if config_path.startswith("experiment/"):
            loaded.defaults_list = [
                default
                for default in loaded.defaults_list or ()
                if not (default.is_override() and _group(default) in self.choices.recipe.options)
            ]
        return loaded


def _read_choices(
    overrides: Collection[Override], files: IConfigRepository, swept_by_config: Collection[str]
) -> _Choices:
    """Return the options that a command line chooses."""
    choices = _Choices()
    options: dict[str, Any] = {}
    for override in overrides:
        group, value = override.key_or_group, override.value()
        _check_one_option(group, value, files)
        is_option = isinstance(value, str | list) and files.group_exists(group)
        if override.is_sweep_override() or not is_option:
            choices.keys.append(group)
        elif not (override.is_delete() or group.startswith("hydra/")):
            options[override.get_key_element().lstrip("+")] = value
    for group, value in options.items():
        if group == "experiment":
            choices.names[group] = f"{group}={_text(value)}"
            choices.experiment = _read_option(files, group, value)
    own = {key for key in swept_by_config if f"{PARAMS}.{key}" in choices.experiment.values}
    for group, value in options.items():
        if group == "recipe":
            choices.names[group] = f"{group}={_text(value)}"
            choices.recipe = _read_option(files, group, value)
            choices.has_recipe = group not in own
        elif group == "protocol":
            choices.protocol = _read_option(files, group, value)
        elif group != "experiment" and group not in own:
            key = _key(group)
            choices.options[key] = f"{group}={_text(value)}"
            choices.settings[key] = _read_option(files, group, value)
    for group, value in choices.recipe.options.items():
        choices.recipe_options[_key(group)] = _read_option(files, group, value)
    for group, value in choices.experiment.options.items():
        if group != "recipe" and not group.startswith("hydra/"):
            choices.experiment_options[_key(group)] = _read_option(files, group, value)
    return choices


def _check_one_option(group: str, value: Any, files: IConfigRepository) -> None:
    """Refuse several options of a group, of which only the last would count.

    Raises:
        UserError: says how to sweep over them.
    """
    takes_several = group == "logging" or group.startswith("hydra/")
    is_several = isinstance(value, list) and len(value) > 1
    if is_several and not takes_several and files.group_exists(group):
        raise UserError(
            f"{group}={_text(value)}: takes one option; to sweep over several write -m "
            f"{group}={','.join(map(str, value))}"
        )


def _read_option(files: IConfigRepository, group: str, option: str | list[str] | None) -> _Settings:
    """Return the settings of an option of a group, or of several that are merged."""
    found = _Settings()
    path, _, package = group.partition("@")
    for name in option if isinstance(option, list) else [option]:
        # Hydra itself complains about an override without a key.
        if name is not None and path:
            # An option in a folder below has the package of its group.
            node = GroupDefault(group=path, value=name, package=package or None)
            node.update_parent("", "")
            settings = _read(files, node)
            found = _Settings(found.options | settings.options, found.values | settings.values)
    return found


def _read(files: IConfigRepository, node: InputDefault) -> _Settings:
    """Return the settings of a file, in the order in which Hydra merges those that it extends."""
    found = _Settings()
    if node.is_interpolation() or node.is_missing() or node.get_name() is None:
        return found
    loaded = files.load_config(node.get_config_path())
    # Hydra itself complains about a file that is not there.
    if loaded is None:
        return found
    node.set_package_header(loaded.header["package"])
    package = node.get_final_package()
    prefix = f"{package}." if package else ""
    own = {f"{prefix}{key}": value for key, value in leaves(loaded.config).items()}
    defaults = copy.deepcopy(loaded.defaults_list or [])
    for default in defaults:
        if default.is_self():
            found.values |= own
            continue
        default.update_parent(node.get_group_path(), package)
        if not default.is_override():
            below = _read(files, default)
            found.options |= below.options
            found.values |= below.values
    for default in reversed(defaults):
        if isinstance(default, GroupDefault) and default.is_override():
            found.options[default.get_override_key()] = default.value
    if not any(default.is_self() for default in defaults):
        found.values |= own
    return found


def _group(default: InputDefault) -> str:
    """Return the group of an entry in the defaults list of an experiment."""
    default = copy.copy(default)
    default.update_parent("experiment", "")
    return default.get_override_key()


def _key(group: str) -> str:
    """Return the dotted key that the options of a group set."""
    path, _, package = group.partition("@")
    return (package or path).replace("/", ".")


def leaves(cfg: Any) -> dict[str, Any]:
    """Return the values of a node by their dotted keys, with interpolations as they are written."""

    def walk(node: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(walk(_plain(cfg), ""))


def _plain(cfg: Any) -> dict[Any, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    return plain if isinstance(plain, dict) else {}


def _pruned(node: dict[Any, Any], dropped: Collection[str], prefix: str = "") -> dict[Any, Any]:
    """Return plain data without the values of some dotted keys."""
    return {
        name: _pruned(value, dropped, f"{prefix}{name}.") if isinstance(value, dict) else value
        for name, value in node.items()
        if f"{prefix}{name}" not in dropped
    }


def _has(settings: _Settings, key: str) -> bool:
    """Return whether an option has a key, or the list that the key is an element of."""
    return any(is_under(key, [name]) for name in settings.values)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, except for what a schema has given one of them.

    It gives a type, and defaults to what stands in a list.
    """
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return all(name in one and _is_same(one[name], value) for name, value in other.items())
    try:
        return bool(one == other or str(one) == str(other) or float(one) == float(other))
    except (TypeError, ValueError):
        return False


def _name(config_path: str) -> str:
    """Return a file as the override that chooses it."""
    return "=".join(config_path.rsplit("/", 1))


def _text(option: str | list[str]) -> str:
    return option if isinstance(option, str) else f"[{','.join(option)}]"


@cache
def _print_once(text: str) -> None:
    # The shell asks for completions by running the program, and would show this line among them.
    if "COMP_LINE" not in os.environ:
        print(text, file=sys.stderr)
