"""The types and ranges of every configuration key, and checks across keys.

Defaults are not here: they live in the YAML files under conf/. This module imports no torch,
so that composing a configuration stays fast.
"""

import math
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.errors import UserError, nearest

RESULT_FREE = (
    "device",
    "threads",
    "name",
    "tags",
    "notes",
    "logging",
    "data.root",
    "trainer.compile",
    "trainer.cuda_graphs",
    "trainer.profile",
    "metrics.cache",
    "sweep",
)
"""Keys that leave a run's result alone, but for rounding: they may differ when it is resumed."""

METRICS = {
    "sliced_wasserstein": "minimize",
    "lenet_fid": "minimize",
    "lenet_kid": "minimize",
    "inception_fid": "minimize",
    "inception_kid": "minimize",
    "precision": "maximize",
    "recall": "maximize",
    "density": "maximize",
    "coverage": "maximize",
    "classifier_score": "maximize",
    "modes": "maximize",
    "reverse_kl": "minimize",
    "high_quality": "maximize",
}
"""What can be measured of generated samples, and which way is better: see gan.metrics."""

TRAINING_VALUES = (
    "loss/discriminator",
    "loss/generator",
    "prob/real",
    "prob/fake",
    "logit/real",
    "logit/fake",
    "grad_norm/discriminator",
    "grad_norm/generator",
    "lr/discriminator",
    "lr/generator",
)
"""What every run logs as it trains; prob/real is D(x), prob/fake is D(G(z))."""

OBJECTIVES = (*METRICS, *TRAINING_VALUES)


def key(**limits: Any) -> Any:
    """A field without a default. Limits: min (inclusive), above, below (exclusive),
    choices, pattern (a regular expression the whole text must match), length (of a list)."""
    return field(default=MISSING, metadata=limits)


NORMS = ("none", "batch", "layer")


@dataclass
class Model:
    _target_: str = key()
    latent_dim: int = key(min=1)
    conditional: bool = key()
    generator_norm: str = key(choices=NORMS)
    discriminator_norm: str = key(choices=NORMS)
    generator_spectral_norm: bool = key()
    discriminator_spectral_norm: bool = key()


@dataclass
class MLP(Model):
    hidden_dim: int = key(min=1)
    hidden_layers: int = key(min=1)
    negative_slope: float = key(min=0)


@dataclass
class DCGAN(Model):
    channels: int = key(min=1)
    negative_slope: float = key(min=0)


@dataclass
class SNGAN(Model):
    channels: int = key(min=1)


@dataclass
class Optimizer:
    _target_: str = key()
    lr: float = key(above=0)
    weight_decay: float = key(min=0)


@dataclass
class Adam(Optimizer):
    betas: list[float] = key(min=0, below=1, length=2)
    eps: float = key(above=0)


@dataclass
class RMSprop(Optimizer):
    alpha: float = key(min=0, below=1)
    eps: float = key(above=0)
    momentum: float = key(min=0, below=1)


@dataclass
class SGD(Optimizer):
    momentum: float = key(min=0, below=1)
    nesterov: bool = key()


@dataclass
class SameOptimizer:
    _target_: str | None = key()
    lr: float = key(above=0)


@dataclass
class Loss:
    _target_: str = key()


@dataclass
class SmoothedLoss(Loss):
    label_smoothing: float = key(min=0, below=1)


@dataclass
class Penalty:
    _target_: str | None = key()
    interval: int = key(min=1)


@dataclass
class ZeroCentred(Penalty):
    gamma: float = key(min=0)


@dataclass
class OneCentred(Penalty):
    weight: float = key(min=0)


@dataclass
class WeightClip(Penalty):
    limit: float = key(above=0)


@dataclass
class Data:
    _target_: str = key()


@dataclass
class DataOnDisk(Data):
    root: str = key()


@dataclass
class ImageFolder(DataOnDisk):
    folder: str = key()
    image_size: int | None = key(min=1)
    channels: int = key(choices=(1, 3))


@dataclass
class Metrics:
    names: list[str] = key(choices=tuple(METRICS))
    every: int = key(min=1)
    samples: int = key(min=2)
    split: str = key(choices=("train", "test"))
    cache: str = key()
    objective: str = key(choices=OBJECTIVES)


@dataclass
class Logging:
    tensorboard: bool = key()
    progress: bool = key()
    every: int = key(min=1)
    samples_every: int = key(min=1)
    samples: int = key(min=1)


@dataclass
class Trainer:
    max_steps: int | None = key(min=1)
    max_epochs: int | None = key(min=1)
    batch_size: int = key(min=1)
    n_critic: int = key(min=1)
    pac: int = key(min=1)
    augment: list[str] = key(choices=("translation", "cutout"))
    ema_half_life: float | None = key(above=0)
    ema_ramp_up: float | None = key(above=0)
    precision: str = key(choices=("fp32", "bf16"))
    compile: bool = key()
    cuda_graphs: bool = key()
    profile: bool = key()
    checkpoint_every: int = key(min=1)


@dataclass
class Sweep:
    seeds: int = key(min=1)
    dry_run: bool = key()
    retry_failed: bool = key()


@dataclass
class Launcher:
    _target_: str = key()
    n_jobs: int | None = key(min=1)
    timeout: float | None = key(above=0)
    retries: int = key(min=0)
    max_failures: int | None = key(min=1)


@dataclass
class LocalLauncher(Launcher):
    workers_per_gpu: int = key(min=1)


@dataclass
class VectorizedLauncher(LocalLauncher):
    max_group: int | None = key(min=1)
    compile: bool = key()
    cuda_graphs: bool = key()
    measure: bool = key()


@dataclass
class SlurmLauncher(Launcher):
    partition: str | None = key()
    time: int = key(min=1)
    signal_delay_s: int = key(min=0)
    mem: str | None = key(pattern=r"\d+[KMGT]?B?")
    cpus_per_task: int = key(min=1)
    gpus_per_node: int = key(min=0)
    array_size: int = key(min=1)
    setup: list[str] = key()
    sbatch: dict[str, Any] = key()


@dataclass
class RayLauncher(Launcher):
    address: str = key()
    num_cpus: int = key(min=1)
    num_gpus: float = key(min=0)
    resources: dict[str, float] = key()
    object_store_memory: int | None = key(min=80 * 1024**2)


@dataclass
class OptunaSweeper:
    _target_: str = key()
    params: dict[str, str] = key()
    n_trials: int = key(min=1)
    sampler: str = key(choices=("tpe", "random", "sobol", "cmaes", "grid"))
    objectives: list[str] = key(choices=OBJECTIVES)
    directions: list[str] = key(choices=("minimize", "maximize"))
    storage: str | None = key()
    pruner: str = key(choices=("none", "median", "asha", "hyperband", "wilcoxon"))
    startup_trials: int = key(min=0)
    min_steps: int = key(min=1)
    reduction_factor: int = key(min=2)


@dataclass
class Config:
    model: Any = key()
    optimizer: Any = key()
    discriminator_optimizer: Any = key()
    loss: Any = key()
    penalty: Any = key()
    data: Any = key()
    metrics: Any = key()
    logging: Any = key()
    trainer: Any = key()
    sweep: Any = key()
    seed: int = key(min=0, below=2**63)
    device: str = key(pattern=r"auto|cpu|cuda|cuda:\d+|mps")
    threads: int | None = key(min=1)
    name: str = key(pattern=r"[\w.-]{1,64}")
    tags: list[str] = key()
    notes: str = key()


SCHEMAS: dict[str, dict[str, type]] = {
    "model": {"mlp": MLP, "dcgan": DCGAN, "sngan": SNGAN},
    "optimizer": {"adam": Adam, "rmsprop": RMSprop, "sgd": SGD},
    "discriminator_optimizer": {
        "same_optimizer": SameOptimizer,
        "adam": Adam,
        "rmsprop": RMSprop,
        "sgd": SGD,
    },
    "loss": {"loss": Loss, "smoothed_loss": SmoothedLoss},
    "penalty": {
        "penalty": Penalty,
        "zero_centred": ZeroCentred,
        "one_centred": OneCentred,
        "weight_clip": WeightClip,
    },
    "data": {"data": Data, "data_on_disk": DataOnDisk, "image_folder": ImageFolder},
    "metrics": {"metrics": Metrics},
    "logging": {"logging": Logging},
    "trainer": {"trainer": Trainer},
    "sweep": {"sweep": Sweep},
}
"""For each config group, the schemas its YAML files may name."""

LAUNCHERS: dict[str, type] = {
    "local_launcher": LocalLauncher,
    "vectorized_launcher": VectorizedLauncher,
    "slurm_launcher": SlurmLauncher,
    "ray_launcher": RayLauncher,
}


def _register() -> None:
    store = ConfigStore.instance()
    # Hydra copies all of it to look into a group, a hundred times for --help. There is one store,
    # and what it hands out is a copy.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(group="schema", name="config", node=Config, package="_global_")
    for schemas in SCHEMAS.values():
        for name, schema in schemas.items():
            store.store(group="schema", name=name, node=schema)
    store.store(group="schema", name="optuna_sweeper", node=OptunaSweeper)
    for name, launcher in LAUNCHERS.items():
        store.store(group="schema", name=name, node=launcher)
    # Runs that start in the same second, on one machine or on many, need different names.
    OmegaConf.register_new_resolver(
        "token", lambda: secrets.token_hex(4), use_cache=True, replace=True
    )


_register()


def check(cfg: DictConfig) -> None:
    """Check ranges, and what depends on more than one key.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    check_ranges(cfg)
    steps, epochs = cfg.trainer.max_steps, cfg.trainer.max_epochs
    if (steps is None) == (epochs is None):
        both = "neither is" if steps is None else "both are"
        raise UserError(
            f"trainer.max_steps={_show(steps)} trainer.max_epochs={_show(epochs)}: {both} set; "
            "give one of them a number and the other null"
        )
    for group in ("optimizer", "discriminator_optimizer"):
        if cfg[group].get("nesterov") and cfg[group].momentum == 0:
            raise UserError(f"{group}.nesterov=true: needs {group}.momentum above 0")
    if cfg.trainer.batch_size % cfg.trainer.pac:
        raise UserError(
            f"trainer.pac={cfg.trainer.pac}: must divide trainer.batch_size="
            f"{cfg.trainer.batch_size}"
        )
    if cfg.trainer.pac > 1 and cfg.model.conditional:
        raise UserError(
            f"trainer.pac={cfg.trainer.pac}: not with model.conditional=true, as the samples of a "
            "pack would need one label"
        )
    objective, names = cfg.metrics.objective, cfg.metrics.names
    if objective in METRICS and objective not in names:
        raise UserError(f"metrics.objective={objective}: must be in metrics.names={_show(names)}")


def doubts(cfg: DictConfig) -> list[str]:
    """What is allowed but seldom meant, a line each."""
    penalty = (cfg.penalty._target_ or "none").rpartition(".")[2]
    found = []
    if cfg.loss._target_.endswith(".wasserstein") and not (
        penalty != "none" or cfg.model.discriminator_spectral_norm
    ):
        found.append(
            "loss=wasserstein bounds a distance only for a Lipschitz discriminator: set "
            "penalty=wgan_gp, penalty=weight_clip or model.discriminator_spectral_norm=true"
        )
    if cfg.model.discriminator_norm == "batch" and penalty not in ("none", "weight_clip"):
        found.append(
            f"model.discriminator_norm=batch with penalty={penalty}: the penalty is of the "
            "gradient at one sample, which batch norm mixes with the others; layer or none fit"
        )
    return found


def check_ranges(cfg: DictConfig, prefix: str = "") -> None:
    """Check every key below a typed node; `prefix` is put before its name in errors.

    Raises:
        UserError: names the first key that is wrong, its value and what is allowed.
    """
    for path, value, limits in _limited(cfg, prefix):
        for item in value if isinstance(value, ListConfig) else [value]:
            if problem := _outside(item, limits):
                raise UserError(f"{path}={_show(value)}: must {problem}")
        if "length" in limits and len(value) != limits["length"]:
            raise UserError(f"{path}={_show(value)}: must hold {limits['length']} values")


def sign(objective: str) -> int:
    """1 where a lower value of this objective is better, -1 where a higher one is: times this,
    values sort best first. A table's columns, such as best/recall, go by their last part."""
    return -1 if METRICS.get(objective.rpartition("/")[2]) == "maximize" else 1


def flatten(cfg: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration with dotted keys, such as `{"optimizer.lr": 2e-4}`; lists
    are leaves. Plain data must be resolved already."""

    def walk(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    container = cfg if isinstance(cfg, dict) else OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return dict(walk({str(name): node for name, node in container.items() if name != "hydra"}, ""))


def defines_result(key: str) -> bool:
    """Whether a run with another value of this (dotted) key may end in other weights."""
    return not is_under(key, RESULT_FREE)


def is_under(key: str, names: Iterable[str]) -> bool:
    """Whether a dotted key is one of these, or below one."""
    return any(key == name or key.startswith(name + ".") for name in names)


def all_keys() -> list[str]:
    """Every dotted key that some choice of config groups has."""
    names: dict[str, None] = {}
    for entry in fields(Config):
        schemas = SCHEMAS.get(entry.name)
        for schema in schemas.values() if schemas else ():
            names |= dict.fromkeys(f"{entry.name}.{part.name}" for part in fields(schema))
        if schemas is None:
            names[entry.name] = None
    return list(names)


def _limited(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every leaf that is not null, as (dotted key, value, limits)."""
    schema = OmegaConf.get_type(cfg)
    # A configuration read back from a run's directory has lost its types; it was checked then.
    limits = {f.name: f.metadata for f in fields(schema)} if is_dataclass(schema) else None
    for name in limits or ():
        if OmegaConf.is_missing(cfg, name):
            raise UserError(f"{prefix}{name}: must be set, as in {prefix}{name}=VALUE")
        if name not in cfg:
            raise UserError(f"{prefix}{name}: must not be removed")
    for name in map(str, cfg):
        path = f"{prefix}{name}"
        if path == "hydra":
            continue
        if limits is not None and name not in limits:
            raise UserError(f"{path}: unknown key{nearest(name, limits)}")
        try:
            value = cfg[name]
        except OmegaConfBaseException as error:
            raise UserError(f"{path}: {str(error).splitlines()[0]}") from error
        if isinstance(value, DictConfig):
            yield from _limited(value, f"{path}.")
        elif value is not None:
            yield path, value, dict(limits[name]) if limits else {}


def _outside(value: Any, limits: dict[str, Any]) -> str | None:
    """How a value breaks its limits, to be read after the word "must"; None if it does not."""
    if "choices" in limits and value not in limits["choices"]:
        choices = [str(choice) for choice in limits["choices"]]
        return f"be one of {', '.join(choices)}" + nearest(str(value), choices)
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        return f"match {limits['pattern'].replace('|', ' | ')}"
    if isinstance(value, float) and math.isinf(value):
        return "be finite"
    # Written so that NaN, which compares false to everything, is outside too.
    if "min" in limits and not value >= limits["min"]:
        return f"be at least {limits['min']}"
    if "above" in limits and not value > limits["above"]:
        return f"be above {limits['above']}"
    if "below" in limits and not value < limits["below"]:
        return f"be below {limits['below']}"
    return None


def _show(value: Any) -> str:
    if isinstance(value, ListConfig):
        return "[" + ",".join(_show(item) for item in value) + "]"
    return "null" if value is None else str(value)
