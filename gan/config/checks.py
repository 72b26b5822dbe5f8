"""Checks of a composed configuration, and which of its keys decide a run's result."""

import copy
import keyword
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gan.config.curves import completed, read_curves
from gan.config.overrides import escaped
from gan.config.schema import (
    CONF_DIR,
    SCHEMAS,
    TARGET_GROUPS,
    Config,
    installed_folders,
    settings_of,
    target_schema,
)
from gan.config.signatures import UNTYPED, read_signature
from gan.config.values import broken_limit, explain_value, shown
from gan.errors import UserError, nearest
from gan.metrics.catalogue import METRICS
from gan.system.files import readable

RESULT_FREE = (
    "device",
    "threads",
    "matmul",
    "name",
    "tags",
    "notes",
    "expected",
    "logging",
    "data.root",
    "trainer.compile",
    "trainer.cuda_graphs",
    "trainer.profile",
    "trainer.keep_best",
    "metrics.cache",
    "sweep",
)
"""Keys that do not change a run's result, except by rounding. They may differ when it resumes."""

ABSENT_IF: dict[str, Any] = {
    "trainer.init_from": None,
    "trainer.init_hash": None,
    "schedule._target_": None,
    "trainer.patience": None,
    "trainer.flip": False,
    "trainer.augment_p": 1.0,
    "trainer.ada_target": None,
    "trainer.ada_images": 500_000,
    "trainer.consistency": [],
    "trainer.consistency_real": 10.0,
    "trainer.consistency_fake": 10.0,
    "data.stratify": False,
    "data.skip_unreadable": False,
    "logging.samples_every_epochs": None,
    "model.attention": None,
    "model.pyramid": False,
    "model.embed_labels": False,
    "features._target_": None,
    "metrics.real": "same",
    "metrics.protocol": None,
}
"""Keys that came later, with the values for which a run is the same as one without them."""
WITHOUT_EFFECT = {
    "trainer.augment_p": "trainer.augment",
    "trainer.ada_images": "trainer.ada_target",
    "trainer.consistency_real": "trainer.consistency",
    "trainer.consistency_fake": "trainer.consistency",
}
"""Keys that change nothing unless another one is set. `flatten` leaves out their defaults."""

NOT_CENTRED = ("gan.losses.least_squares", "gan.losses.relativistic", "gan.losses.wasserstein")
"""Losses with which logits of real samples may be above 0, or below, whatever is learned."""


def checked(cfg: DictConfig) -> DictConfig:
    """Return a configuration with the types of all its keys, after checking each of them.

    The keys of a group that names a function are the parameters of that function.

    Args:
        cfg: is not changed. It is returned itself if its groups have their types already.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    return checked_with_values(cfg)[0]


def checked_with_values(cfg: DictConfig) -> tuple[DictConfig, dict[str, Any]]:
    """Return what `checked` does, and the same configuration as plain data.

    The plain data are without Hydra's own part.

    Raises:
        UserError: see `checked`.
    """
    cfg = typed(cfg)
    # Plain data are read many times as fast as nodes of OmegaConf.
    values = _values(cfg)
    _check_ranges(cfg, values)
    model, trainer, metrics = values["model"], values["trainer"], values["metrics"]
    _check_model(model, trainer["pac"])
    _check_one_is_set(values, "trainer", "max_steps", "max_epochs")
    _check_one_is_set(values, "logging", "samples_every", "samples_every_epochs")
    for group in ("optimizer", "discriminator_optimizer"):
        settings = values[group]
        if settings.get("nesterov") and settings.get("momentum") == 0:
            raise UserError(f"{group}.nesterov=true: needs {group}.momentum above 0")
    read_curves(cfg)
    # Runs of earlier versions have no such key.
    for index, entry in enumerate(values.get("expected") or []):
        _check_expected(f"expected.{index}", cfg.expected[index], entry)
    if trainer["batch_size"] % trainer["pac"]:
        raise UserError(
            f"trainer.pac={trainer['pac']}: must divide trainer.batch_size={trainer['batch_size']}"
        )
    # Runs of earlier versions lack some of the keys.
    target = trainer.get("ada_target")
    if target is not None and not (trainer["augment"] and trainer["augment_p"] > 0):
        raise UserError(
            f"trainer.ada_target={target}: needs something in trainer.augment, such as "
            "[translation,flip], and trainer.augment_p above 0"
        )
    consistency = trainer.get("consistency")
    if consistency and not (trainer["consistency_real"] or trainer["consistency_fake"]):
        raise UserError(
            f"trainer.consistency={shown(consistency)}: needs trainer.consistency_real or "
            "trainer.consistency_fake above 0"
        )
    objective, names = metrics["objective"], metrics["names"]
    if objective in METRICS and objective not in names:
        raise UserError(f"metrics.objective={objective}: must be in metrics.names={shown(names)}")
    patience = trainer.get("patience")
    if patience is not None and objective not in METRICS:
        raise UserError(
            f"trainer.patience={patience}: needs a metric as metrics.objective, not "
            f"{shown(objective)}"
        )
    kept = trainer.get("keep_best")
    if kept is not None and kept not in names:
        raise UserError(f"trainer.keep_best={kept}: must be in metrics.names={shown(names)}")
    return cfg, values


def doubts(cfg: DictConfig) -> list[str]:
    """Return warnings about settings that are allowed but rarely intended, one line each."""
    penalty = (cfg.penalty._target_ or "none").rpartition(".")[2]
    model, found = plain(cfg.model), []
    has_spectral_norm = bool(model.get("discriminator_spectral_norm"))
    has_batch_norm = model.get("discriminator_norm") == "batch"
    if cfg.loss._target_ == "gan.losses.wasserstein" and not (
        penalty != "none" or has_spectral_norm
    ):
        found.append(
            "loss=wasserstein bounds a distance only for a Lipschitz discriminator: set "
            "penalty=wgan_gp, penalty=weight_clip or model.discriminator_spectral_norm=true"
        )
    if has_spectral_norm and has_batch_norm:
        found.append(
            "model.discriminator_spectral_norm=true with model.discriminator_norm=batch: batch "
            "norm scales what spectral norm bounds, so the discriminator is not Lipschitz; set "
            "model.discriminator_norm=none, as in SNGAN"
        )
    if cfg.trainer.get("ada_target") is not None and cfg.loss._target_ in NOT_CENTRED:
        found.append(
            f"trainer.ada_target with loss={cfg.loss._target_.rpartition('.')[2]}: it follows the "
            "sign of the logits of real samples, and 0 does not part real from fake with this "
            "loss; trainer.augment_p alone keeps the probability"
        )
    if has_batch_norm and penalty not in ("none", "weight_clip"):
        found.append(
            f"model.discriminator_norm=batch with penalty={penalty}: the penalty is of the "
            "gradient at one sample, which batch norm mixes with the others; layer or none fit"
        )
    flat = flatten(cfg)
    for key, switch in WITHOUT_EFFECT.items():
        curve = f"schedule.{key}."
        is_set = key in flat or any(name.startswith(curve) for name in flat)
        if is_set and not plain(cfg.trainer).get(switch.partition(".")[2]):
            found.append(f"{key}: has no effect without {switch}")
    return found


def check_ranges(cfg: DictConfig, prefix: str = "") -> None:
    """Check the range of every key below a typed node.

    Args:
        prefix: put before the keys' names in errors.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    _check_ranges(cfg, _values(cfg, prefix), prefix)


def _check_ranges(cfg: DictConfig, values: dict[str, Any], prefix: str = "") -> None:
    for path, value, limits in _limited_keys(cfg, values, prefix):
        for item in value if isinstance(value, list) else [value]:
            if item is not None and (problem := broken_limit(item, limits)):
                raise UserError(f"{path}={shown(value)}: must {problem}")
        if "length" in limits and len(value) != limits["length"]:
            raise UserError(f"{path}={shown(value)}: must hold {limits['length']} values")


def flatten(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return the resolved configuration with dotted keys, such as `{"optimizer.lr": 2e-4}`.

    Lists stay whole. The keys ABSENT_IF are left out if they have those values. Plain data must
    be resolved already.
    """

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            elif f"{prefix}{name}" not in ABSENT_IF or value != ABSENT_IF[f"{prefix}{name}"]:
                yield f"{prefix}{name}", value

    container = cfg if isinstance(cfg, dict) else OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return dict(walk({str(name): node for name, node in container.items() if name != "hydra"}, ""))


@cache
def defines_result(key: str) -> bool:
    """Return whether another value of this (dotted) key may give a run other weights."""
    return not is_under(key, RESULT_FREE)


@cache
def identifies_run(key: str) -> bool:
    """Return whether runs that differ in this (dotted) key are different runs.

    Initial weights count by their content, and not by the place where they are.
    """
    return defines_result(key) and key != "trainer.init_from"


def option_name(group: str, flat: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """Return the chosen option of a config group, or the name of its function if that is not known.

    It is "none" where neither is.

    Args:
        flat: the configuration with dotted keys.
        choices: the chosen options of the config groups, as far as they are known.
    """
    function = str(flat.get(f"{group}._target_") or "none").rpartition(".")[2]
    return str(choices.get(group, function))


def is_under(key: str, names: Iterable[str]) -> bool:
    """Return whether a dotted key is one of `names`, or below one of them."""
    return any(key == name or key.startswith(name + ".") for name in names)


@cache
def all_keys() -> tuple[str, ...]:
    """Return every dotted key that some choice of config groups has.

    Those of conf/ and of installed packages count.
    """
    folders = [CONF_DIR, *filter(None, installed_folders().values())]
    names: dict[str, None] = {}
    for entry in fields(Config):
        if schema := SCHEMAS.get(entry.name):
            names |= dict.fromkeys(f"{entry.name}.{part.name}" for part in fields(schema))
        elif entry.name in TARGET_GROUPS:
            for path in sorted(p for f in folders for p in (f / entry.name).glob("*.yaml")):
                names |= dict.fromkeys(f"{entry.name}.{key}" for key in _option_keys(path))
        else:
            names[entry.name] = None
    return tuple(names)


def _option_keys(path: Path) -> Iterator[str]:
    """Yield the keys that a YAML file sets or takes from an option of another group."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        # A run that takes this option is told by Hydra.
        return
    for key, value in content.items() if isinstance(content, dict) else ():
        if key != "defaults":
            yield from _leaves_of(key, value)
            continue
        for entry in value:
            for group, option in entry.items() if isinstance(entry, dict) else ():
                yield from _option_keys(
                    CONF_DIR / group.strip("/").partition("@")[0] / f"{option}.yaml"
                )


def _leaves_of(key: str, value: Any) -> Iterator[str]:
    """Yield the keys below a key, such as those of a curve, or the key itself."""
    if not (isinstance(value, dict) and value):
        yield key
        return
    for name, below in value.items():
        yield from _leaves_of(f"{key}.{name}", below)


def plain(node: DictConfig) -> dict[str, Any]:
    """Return a resolved node as plain values: lists, dictionaries, numbers, texts."""
    container = OmegaConf.to_container(node, resolve=True)
    assert isinstance(container, dict)
    return {str(name): value for name, value in container.items()}


def as_yaml(node: DictConfig) -> str:
    """Return a resolved node as YAML.

    Names of files may have bytes that are no UTF-8, see `gan.system.files.readable`. OmegaConf 2.4
    raises an error for these.
    """
    return str(OmegaConf.to_yaml(DictConfig(escaped(_readable(plain(node)))), resolve=True))


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_readable(name): _readable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return readable(value) if isinstance(value, str) else value


def as_config(values: dict[str, Any]) -> DictConfig:
    """Return plain values as a configuration. A text is what it is, and never an interpolation."""
    return DictConfig(escaped(values))


def typed(cfg: DictConfig) -> DictConfig:
    """Return a configuration with the types of the targets' parameters, or itself if it has them.

    Raises:
        UserError: a target cannot be read, or lacks a key, or a value has another type.
    """
    groups = [group for group in TARGET_GROUPS if isinstance(cfg.get(group), DictConfig)]
    nodes = {group: _typed(group, cfg[group]) for group in groups}
    if all(node is cfg[group] for group, node in nodes.items()):
        return cfg
    cfg = copy.deepcopy(cfg)
    for group, node in nodes.items():
        OmegaConf.update(cfg, group, node, merge=False, force_add=True)
    return cfg


def _typed(group: str, node: DictConfig) -> DictConfig:
    """Return an option of a group with the types of the parameters of its target."""
    target, names = node.get("_target_"), [str(name) for name in node if name != "_target_"]
    if target is not None and not isinstance(target, str):
        raise UserError(f"{group}._target_={shown(target)}: must be the dotted name of a function")
    try:
        settings = settings_of(group, target)
        takes_any = target is not None and read_signature(target).takes_any
    except UserError as error:
        raise UserError(f"{group}._target_={target}: {error}") from error
    names += [n for n in TARGET_GROUPS[group].defaults if n not in names]
    for name in names:
        can_be_passed = name.isidentifier() and not keyword.iskeyword(name)
        if name not in settings and not (takes_any and can_be_passed):
            has = f"; {group} has {', '.join(['_target_', *settings])}"
            hint = nearest(name, settings, f"{group}.") or has
            raise UserError(f"{group}.{name}: unknown key{hint}")
        if name in settings and settings[name].type is UNTYPED:
            raise UserError(
                f"{group}.{name}: the parameter of {target} needs a type, such as {name}: float"
            )
    for name, setting in settings.items():
        if setting.is_required and name not in names:
            raise UserError(f"{group}.{name}: must be set, as in {group}.{name}=VALUE")
    schema = target_schema(group, target, tuple(names))
    if OmegaConf.get_type(node) is schema:
        return node
    # Plain values, because the node may have the types of another target.
    values: Any = OmegaConf.to_container(node, resolve=False)
    if group == "schedule":
        values = completed(values)
    try:
        merged = OmegaConf.merge(schema, TARGET_GROUPS[group].defaults, values)
    except OmegaConfBaseException as error:
        name = (error.full_key or "").partition(".")[0].partition("[")[0]
        raise UserError(
            f"{group}.{name}={shown(values.get(name))}: {explain_value(error)}"
        ) from error
    assert isinstance(merged, DictConfig)
    return merged


def _check_expected(key: str, entry: DictConfig, values: dict[str, Any]) -> None:
    _check_ranges(entry, values, f"{key}.")
    least, most = values["least"], values["most"]
    if least is None and most is None:
        raise UserError(f"{key}: gives neither least nor most")
    if None not in (least, most) and least > most:
        raise UserError(f"{key}.least={least}: must be at most {most}, the most")


def _check_one_is_set(values: dict[str, Any], group: str, in_steps: str, in_epochs: str) -> None:
    """Check that a length is given in steps or in epochs."""
    # Runs of earlier versions lack some of the keys.
    steps, epochs = values[group].get(in_steps), values[group].get(in_epochs)
    if (steps is None) == (epochs is None):
        both = "neither is" if steps is None else "both are"
        raise UserError(
            f"{group}.{in_steps}={shown(steps)} {group}.{in_epochs}={shown(epochs)}: {both} set; "
            "give one of them a number and the other null"
        )


def _check_model(model: dict[str, Any], pac: int) -> None:
    """Check what the program needs of a model, whoever wrote it."""
    target, is_conditional = model["_target_"], model["conditional"]
    if "latent_dim" not in model:
        raise UserError("model.latent_dim: must be set, the numbers in a latent")
    signature = read_signature(target)
    takes = signature.settings
    if signature.takes_any:
        return
    if "image_shape" not in takes:
        raise UserError(
            f"model._target_={target}: must take a parameter 'image_shape', the shape of a sample"
        )
    if is_conditional and "classes" not in takes:
        raise UserError(f"model.conditional=true: {target} takes no parameter 'classes'")
    norm = model.get("generator_norm")
    if norm == "conditional_batch" and not is_conditional:
        raise UserError(f"model.generator_norm={norm}: needs model.conditional=true")
    if pac > 1 and "pac" not in takes:
        raise UserError(f"trainer.pac={pac}: {target} takes no parameter 'pac'")
    if pac > 1 and is_conditional:
        raise UserError(
            f"trainer.pac={pac}: not with model.conditional=true, as the samples of a pack would "
            "need one label"
        )


def _values(cfg: DictConfig, prefix: str = "") -> dict[str, Any]:
    """Return a node as plain data, without Hydra's own part. A value that is not set is MISSING.

    Raises:
        UserError: names the first key whose value cannot be read.
    """
    values: dict[str, Any] = {}
    for name in map(str, cfg):
        path = f"{prefix}{name}"
        if path == "hydra":
            continue
        try:
            value = cfg[name]
            if isinstance(value, DictConfig | ListConfig):
                value = OmegaConf.to_container(value, resolve=True)
        except MissingMandatoryValue:
            value = MISSING
        except OmegaConfBaseException as error:
            key = (error.full_key or path).partition("[")[0]
            raise UserError(f"{key}: {str(error).splitlines()[0]}") from error
        values[name] = value
    return values


def _limited_keys(
    cfg: DictConfig, values: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Yield every value that is not null, as (dotted key, value, limits).

    Args:
        values: the same node as plain data.
    """
    schema = OmegaConf.get_type(cfg)
    # A configuration that was read back from a file has lost its types. It was checked before.
    limits = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else None
    for name in limits or ():
        if name not in values:
            raise UserError(f"{prefix}{name}: must not be removed")
    for name, value in values.items():
        path = f"{prefix}{name}"
        if limits is not None and name not in limits:
            raise UserError(f"{path}: unknown key{nearest(name, limits, prefix)}")
        if value == MISSING:
            raise UserError(f"{path}: must be set, as in {path}=VALUE")
        if isinstance(value, dict):
            yield from _limited_keys(cfg[name], value, f"{path}.")
        elif value is not None:
            yield path, value, limits[name] if limits else {}
