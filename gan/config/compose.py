"""Compose configurations outside of Hydra's command line, and explain why one cannot be composed.

A configuration is given by words, as on the command line: overrides such as `loss=hinge`, and
`--config-dir=FOLDER`, `--config-path=FOLDER` and `--config-name=NAME`, which say where YAML files
are looked for.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathElement
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import ABSENT_IF, checked, flatten, is_under
from gan.config.loader import VERSION_BASE, leaves, use_loader
from gan.config.overrides import as_override, escaped, with_quotes
from gan.config.schema import CONF_DIR, CURVE_GROUPS, GROUPS, LAUNCHERS
from gan.config.trust import option_files
from gan.config.values import explain_value
from gan.errors import UserError, nearest
from gan.system.files import expanded

use_loader()

CONFIG_NAME = "config"
"""The YAML file in conf/ that names the default option of each group."""

_PLACES = {"config-dir": "-cd", "config-path": "-cp", "config-name": "-cn"}
_GLOBAL_GROUPS = ("recipe", "experiment", "protocol", "hydra/launcher", "hydra/sweeper")
_NO_OPTION = "Config group override must be a string or a list"
_NO_DEFAULTS = "Invalid defaults list"
_FLAGS = {
    "Only one of --run": "give one of --run, --multirun, --cfg, --info and --shell-completion; "
    "--multirun with sweep.dry_run=true shows the plan of a sweep",
    "Expecting one subcommand": "--shell-completion: needs install=SHELL, uninstall=SHELL or "
    "query=SHELL, where SHELL is bash, zsh or fish",
    "The --resolve flag": "--resolve: needs --cfg or --help",
}
"""Starts of Hydra's messages about options of the command line, and what to do instead."""


def compose(*words: str) -> DictConfig:
    """Return the configuration that `gan train WORDS` would run.

    Raises:
        UserError: an override names no key, or its value has the wrong type or range.
    """
    return checked(compose_or_explain(words))


def compose_unchecked(words: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Return the configuration that Hydra composes, without checking its values.

    Args:
        with_hydra: include Hydra's own part, the key `hydra`.

    Raises:
        HydraException, OmegaConfBaseException: an override does not fit; see `can_explain`.
    """
    places, overrides = split_words(words)
    with config_loader(words) as loader:
        cfg = loader.load_configuration(
            places.get("config-name", CONFIG_NAME), overrides, RunMode.RUN, from_shell=False
        )
    if not with_hydra:
        take_out_hydra(cfg)
    return cfg


def compose_or_explain(words: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """Return what `compose_unchecked` does, with one line about a word that does not fit.

    Raises:
        UserError: an override does not fit, or a file that the words name is not there.
    """
    try:
        return compose_unchecked(words, with_hydra=with_hydra)
    except Exception as error:
        if not can_explain(error):
            raise
        raise UserError(explain(error, words)) from error


def take_out_hydra(cfg: DictConfig) -> None:
    """Take Hydra's own part out of a configuration, and put its values where they are asked for.

    Without it, `${hydra:runtime.cwd}` could not be resolved.

    Raises:
        UserError: a value that is asked for is not known.
    """
    with as_hydra_config(cfg):
        for key, value in leaves(cfg).items():
            if asks_hydra(value) and not is_under(key, ["hydra"]):
                try:
                    found = OmegaConf.select(cfg, key)
                    is_node = OmegaConf.is_config(found)
                    plain = OmegaConf.to_container(found, resolve=True) if is_node else found
                except OmegaConfBaseException as error:
                    raise UserError(f"{key}={value}: {str(error).splitlines()[0]}") from error
                OmegaConf.update(cfg, key, escaped(plain))
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    OmegaConf.set_struct(cfg, True)


def asks_hydra(value: Any) -> bool:
    """Return whether a value, as it is written, has interpolations of Hydra's own values."""
    return bool(re.search(r"\$\{hydra[:.]", str(value)))


@contextmanager
def as_hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Let `HydraConfig.get()` and `${hydra:...}` see Hydra's own part of a configuration."""
    hydra = HydraConfig.instance()
    before = hydra.cfg
    hydra.set_config(cfg)
    try:
        yield
    finally:
        hydra.cfg = before


def split_words(words: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return where YAML files are looked for, by the names of the options, and the overrides.

    Other options, such as `--multirun`, are left out.
    """
    places: dict[str, str] = {}
    overrides = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        option = name.removeprefix("--")
        option = next((long for long, short in _PLACES.items() if short == name), option)
        if word.startswith("-") and option in _PLACES:
            places[option] = value if equals else next(left, "")
        elif not word.startswith("-"):
            overrides.append(word)
    return places, overrides


@contextmanager
def config_loader(words: Sequence[str]) -> Iterator[ConfigLoader]:
    """Yield a loader that reads conf/ and the folders that the words name.

    Hydra uses it within the block.

    Raises:
        UserError: a folder is not there.
    """
    places, _ = split_words(words)
    places = {name: expanded(path) for name, path in places.items()}
    main = Path(places.get("config-path", CONF_DIR)).absolute()
    for given in (str(main), places.get("config-dir", str(main))):
        if not Path(given).is_dir():
            raise UserError(f"{given}: there is no such folder of configurations")
    previous = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(main), **VERSION_BASE):
            loader = GlobalHydra.instance().config_loader()
            if "config-dir" in places:
                search_path = loader.get_search_path()
                folder = Path(places["config-dir"]).absolute()
                # Hydra wants the schemas to be last.
                element = SearchPathElement("command-line", f"file://{folder}")
                search_path.get_path().insert(-1, element)
                loader = type(loader)(config_search_path=search_path)  # type: ignore[call-arg]
                GlobalHydra.instance().hydra.config_loader = loader  # type: ignore[union-attr]
            yield loader
    finally:
        GlobalHydra.instance().hydra = previous


def source_words(hydra: Any) -> list[str]:
    """Return the words that say where a composed configuration came from; none for conf/ alone.

    Folders of installed packages are not named, because they are found without.

    Args:
        hydra: Hydra's own part of the configuration.
    """
    words, others = [], []
    for source in hydra.runtime.config_sources:
        path, provider = source.path, source.provider
        if provider == "main" and Path(path) != CONF_DIR:
            words.append(f"--config-path={path}")
        elif provider == "command-line":
            words.append(f"--config-dir={path}")
        elif provider.startswith("hydra.searchpath"):
            if source.schema == "file":
                # From another working directory it would be another folder.
                path = str(Path(hydra.runtime.cwd, path))
            others.append(f"{source.schema}://{path}")
    if hydra.job.config_name != CONFIG_NAME:
        words.append(f"--config-name={hydra.job.config_name}")
    return [*words, *([f"hydra.searchpath={as_override(others)}"] if others else [])]


def chosen_options(hydra_cfg: Any) -> dict[str, str]:
    """Return the option of each config group that has one, given Hydra's own part `hydra`.

    Hydra's own groups are left out, a group of which several options are taken, and the protocol,
    whose name follows from the settings.
    """
    choices = OmegaConf.to_container(hydra_cfg.runtime.choices)
    assert isinstance(choices, dict)
    return {
        str(group): str(option)
        for group, option in choices.items()
        if option is not None and not str(group).startswith(("hydra/", "schema", "protocol"))
    }


def can_explain(error: Exception) -> bool:
    """Return whether Hydra raises such an error for a wrong override."""
    known = isinstance(
        error, HydraException | OmegaConfBaseException | yaml.YAMLError | UnicodeDecodeError
    )
    return known or str(error).startswith((_NO_OPTION, _NO_DEFAULTS, *_FLAGS))


def explain(error: Exception, words: Sequence[str]) -> str:
    """Return one line about an error that Hydra raised for these words."""
    text, (_, overrides) = str(error), split_words(words)
    given = {with_quotes(override): override for override in overrides}
    if nameless := [override for override in overrides if not override.partition("=")[0].strip()]:
        return f"{nameless[0] or repr('')}: cannot be read as KEY=VALUE"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}: {error.problem}"
    if isinstance(error, yaml.YAMLError | UnicodeDecodeError):
        return _unreadable_file(words) or str(error)
    if isinstance(error, OverrideParseException):
        return f"{given.get(error.override, error.override)}: cannot be read as KEY=VALUE"
    if flags := [hint for start, hint in _FLAGS.items() if text.startswith(start)]:
        return flags[0]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(str(error.missing_cfg_file), words)
    if text.startswith(_NO_OPTION):
        # Hydra does not say in which override it read a number or null as the name of an option.
        for group, _, option in (override.partition("=") for override in overrides):
            is_group = group in (*GROUPS, *_GLOBAL_GROUPS)
            if group in ("recipe", "experiment", "protocol") and yaml.safe_load(option) is None:
                return f"{group}={option}: leave it out for no option, or write ~{group}"
            if is_group and not isinstance(yaml.safe_load(option), str):
                return _unknown_option(f"{group}/{option}", words)
    if found := re.match(r"Could not override '([^']+)'", text):
        inner = re.search(r"full_key: (\S+)", str(error.__cause__))
        is_below = inner and inner[1].startswith(f"{found[1]}.")
        return _unknown_key(inner[1] if inner and is_below else found[1], words)
    if found := re.match(r"Multiple values for (\S+?)\. To override", text):
        return f"+{found[1]}: is a group that has an option already; leave out the plus"
    if found := re.search(r"[Ff]orce.add of config groups is not supported: '?\+*([^'=]+)", text):
        return f"++{found[1]}: is a group; leave out the pluses"
    if found := re.match(r"Error merging override (.*)", text):
        cause = explain_value(error.__cause__ or error)
        hint = "; leave it out for the default" if cause.endswith("not be null") else ""
        return f"{given.get(found[1], found[1])}: {cause}{hint}"
    if found := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"+{found[1]}: is there already; leave out the plus"
    if found := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
        return f"{found[1]}: to sweep over several values add --multirun; a list is written [1,2]"
    if found := re.match(r"(?:schema@)?(\S+) appears more than once", text):
        return f"{found[1]}: takes one option, as in {found[1]}=OPTION"
    lines = [*text.splitlines(), *str(error.__cause__ or "").splitlines()]
    return " ".join(line.strip() for line in lines if line.strip())


def _unreadable_file(words: Sequence[str]) -> str | None:
    """Return what is wrong with the first YAML file that is no UTF-8, if there is one."""
    with config_loader(words) as loader:
        sources = [source.path for source in loader.get_sources() if source.scheme() == "file"]
    for path in (path for source in sources for path in option_files(Path(source))):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            return f"{path}: is no UTF-8 at byte {error.start}"
        except OSError:
            continue
    return None


def _unknown_option(config_file: str, words: Sequence[str]) -> str:
    group, _, option = config_file.removesuffix(".yaml").rpartition("/")
    with config_loader(words) as loader:
        options = sorted(loader.get_group_options(group))
        groups = loader.list_groups("")
    if not group:
        options = [name for name in options if not name.startswith("_")]
        hint = f"there are {', '.join(options)}{nearest(option, options)}"
        return f"--config-name={option}: there is no such file; {hint}"
    if not options:
        hint = nearest(group, groups) or f"; there are {', '.join(groups)}"
        return f"{group}={option}: there is no group '{group}'{hint}"
    allowed = f"allowed: {', '.join(options)}{nearest(option, options)}"
    return f"{group}={option}: no such option; {allowed}"


def _names(schema: type) -> list[str]:
    return [entry.name for entry in fields(schema)]


def _unknown_key(name: str, words: Sequence[str]) -> str:
    _, overrides = split_words(words)
    with config_loader(words) as loader:
        groups = [*loader.list_groups(""), *_GLOBAL_GROUPS]
    given = next((o for o in overrides if o.lstrip("+~").startswith(name + "=")), name)
    # The options that are chosen decide which keys there are.
    values = [o for o in overrides if o.partition("=")[0] not in groups or {*",{"} & {*o}]
    of_hydra = name.startswith("hydra.")
    parent, _, leaf = name.rpartition(".")
    choices = [w for w in words if w not in values or w.startswith("hydra.searchpath=")]
    cfg = compose_unchecked(choices, with_hydra=of_hydra)
    if of_hydra:
        # Hydra's own values may not resolve here.
        while not isinstance(node := OmegaConf.select(cfg, parent), DictConfig):
            name, (parent, _, leaf) = parent, parent.rpartition(".")
        known = [f"{parent}.{key!s}" for key in node]
    else:
        known = [*flatten(cfg), *ABSENT_IF, *groups]
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    same = [key for key in known if key.rpartition(".")[2] == leaf]
    if of_hydra and (name in known or not known):
        # A mapping takes any key, but Hydra takes no new one without a plus.
        return f"{given}: not there yet; add it by +{name}{'.KEY' if name in known else ''}=VALUE"
    owners = [one.removesuffix("_launcher") for one in LAUNCHERS if leaf in _names(LAUNCHERS[one])]
    if parent == "hydra.launcher" and owners:
        names = " and ".join(f"hydra/launcher={owner}" for owner in owners)
        have = "has" if len(owners) == 1 else "have"
        return f"{given}: {names} {have} it, and this one does not"
    if is_under(name, [f"schedule.{group}" for group in CURVE_GROUPS]):
        return f"{given}: not there yet; add it by +{name}=VALUE"
    if parent and siblings:
        hint = nearest(leaf, siblings, f"{parent}.") or f"; {parent} has {', '.join(siblings)}"
    elif same:
        hint = f"; did you mean '{same[0]}'?"
    else:
        hint = nearest(name, known) or f"; there are {', '.join(GROUPS)}"
    return f"{given}: unknown key '{name}'{hint}"
