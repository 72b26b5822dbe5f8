"""The help of `gan train`: flags, groups with their options, and keys with their meaning."""

from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gan.commands.help import table, wrapped
from gan.config.checks import flatten, typed
from gan.config.compose import compose_unchecked, config_loader
from gan.config.loader import leaves
from gan.config.overrides import as_override
from gan.config.reference import Option, find_option, key_rows, read_comments, read_option
from gan.config.schema import CONF_DIR, GROUPS, installed_folders
from gan.system.invocation import command_line

EXAMPLES = (
    ["data=fashion_mnist", "penalty=none", "trainer.max_steps=20000"],
    ["experiment=lab"],
    ["-m", "optimizer.lr=1e-4,2e-4", "model=small,base", "sweep.seeds=5"],
    ["-m", "study=zip(model=choice(small,base),optimizer.lr=choice(1e-4,2e-4))"],
    ["-m", "penalty=none,r1", "penalty.gamma=when(penalty=r1, 1,10)"],
    ["-m", "optimizer.lr=1e-4,2e-4", "seed=range(32)", "hydra/launcher=vectorized"],
    ["-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log, interval(1e-5, 1e-2))"],
    ["--help", "data=image_folder", "model=dcgan"],
)
FLAGS = {
    "-m, --multirun": "train a sweep: every combination of the values that have commas between "
    "them",
    "--cfg job": "print the configuration, and train nothing; --resolve fills in its ${...}",
    "--help": "print this; GROUP=OPTION beside it shows the keys of that option",
    "--config-dir DIR": "look for options in a folder of yours too",
    "--config-path DIR": "take all YAML files from another folder than conf/",
    "--config-name NAME": "begin with another file than config.yaml",
    "--version": "print the version of this program",
    "--hydra-help": "print the flags and groups of Hydra itself",
}
SWEEP_GROUPS = ("hydra/launcher", "hydra/sweeper")
HYDRA_KEYS = ("run.dir", "sweep.dir")
"""Keys below `hydra` that are described with those of the top level."""


def train_help(words: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the help, with the options and values that a command line chooses.

    Raises:
        HydraException, OmegaConfBaseException, UserError: the words do not fit.
    """
    cfg = compose_unchecked(words, with_hydra=True)
    chosen = cfg.hydra.runtime.choices
    sources = (Path(source.path) for source in cfg.hydra.runtime.config_sources)
    folders = [*sources, *filter(None, installed_folders().values()), CONF_DIR]
    usage = f"{command_line('train')} [-m] [GROUP=OPTION ...] [KEY=VALUE ...]"
    yield from wrapped(f"Train a GAN, or a sweep of GANs with -m: {usage}")
    yield "\nExamples:"
    yield from (f"  {command_line('train', *example)}" for example in EXAMPLES)
    yield "\nFlags, which may stand anywhere on the line:"
    yield from table(FLAGS.items())
    yield "\nGroups. GROUP=OPTION chooses an option; a * marks those that are chosen here."
    main = read_option("", "config")
    with config_loader(words) as loader:
        groups = (*GROUPS, "recipe", "experiment", "protocol", *SWEEP_GROUPS)
        options = {group: loader.get_group_options(group) for group in groups}
    for group, names in options.items():
        yield f"\n{group}: {main.comments[f'defaults.{group}']}"
        yield from table(
            (
                f"{'*' if name == chosen.get(group) else ' '} {name}",
                _about(find_option(group, name, folders)),
            )
            for name in names
        )
    yield "\nKeys of the options that are chosen here, with their values. KEY=VALUE sets one."
    hydra = {f"hydra.{key}": value for key, value in leaves(cfg.hydra).items() if key in HYDRA_KEYS}
    cfg = typed(cfg)
    top = {key: value for key, value in _plain(cfg).items() if key not in (*GROUPS, "hydra")}
    yield ""
    yield from _keys("", main._replace(values=top | hydra))
    for group in (*GROUPS, *SWEEP_GROUPS):
        key, name = group.replace("/", "."), chosen.get(group)
        node = OmegaConf.select(cfg, key)
        if isinstance(node, DictConfig) and isinstance(name, str):
            values = _plain(node)
            comments = dict.fromkeys(flatten(values), "Its file says nothing about it.")
            comments |= {k: v for k, v in read_option(group, name, folders).comments.items() if v}
            schema = OmegaConf.get_type(node)
            yield f"\n{group}={name}"
            yield from _keys(
                f"{key}.", Option("", schema if is_dataclass(schema) else None, values, comments)
            )


def _keys(prefix: str, option: Option) -> Iterator[str]:
    """Yield two lines or more for each key: its value, and what it means."""
    for key, (kind, value, meaning) in key_rows(option).items():
        shown = value if isinstance(value, str) and value else as_override(value)
        yield f"  {prefix}{key}={shown}"
        yield from wrapped(f"{meaning} ({kind})".strip().replace("`", ""), 6)


def _about(path: Path) -> str:
    return read_comments(path)[0] if path.is_file() else ""


def _plain(node: DictConfig) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(node, resolve=False)
    return {str(key): value for key, value in plain.items()}
