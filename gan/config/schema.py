"""The type and the range of every configuration key.

Defaults are not here: they live in the YAML files under conf/. This module imports no torch, so
that composing a configuration stays fast.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from gan.metrics.catalogue import METRICS, OBJECTIVES


def key(**limits: Any) -> Any:
    """Declare a key without a default, and its limits.

    Limits: `min` (inclusive), `above` and `below` (exclusive), `choices`, `pattern` (a regular
    expression that the whole text must match) and `length` (of a list).
    """
    return field(default=MISSING, metadata=limits)


NORMS = ("none", "batch", "layer")


@dataclass
class Model:
    """Keys of every pair of networks."""

    _target_: str = key()
    latent_dim: int = key(min=1)
    conditional: bool = key()
    generator_norm: str = key(choices=NORMS)
    discriminator_norm: str = key(choices=NORMS)
    generator_spectral_norm: bool = key()
    discriminator_spectral_norm: bool = key()


@dataclass
class MLP(Model):
    """Keys of the multilayer perceptrons."""

    hidden_dim: int = key(min=1)
    hidden_layers: int = key(min=1)
    negative_slope: float = key(min=0)


@dataclass
class DCGAN(Model):
    """Keys of the DCGAN networks."""

    channels: int = key(min=1)
    negative_slope: float = key(min=0)


@dataclass
class SNGAN(Model):
    """Keys of the SNGAN networks."""

    channels: int = key(min=1)


@dataclass
class Optimizer:
    """Keys of every optimizer."""

    _target_: str = key()
    lr: float = key(above=0)
    weight_decay: float = key(min=0)


@dataclass
class Adam(Optimizer):
    """Keys of Adam and AdamW."""

    betas: list[float] = key(min=0, below=1, length=2)
    eps: float = key(above=0)


@dataclass
class RMSprop(Optimizer):
    """Keys of RMSprop."""

    alpha: float = key(min=0, below=1)
    eps: float = key(above=0)
    momentum: float = key(min=0, below=1)


@dataclass
class SGD(Optimizer):
    """Keys of stochastic gradient descent."""

    momentum: float = key(min=0, below=1)
    nesterov: bool = key()


@dataclass
class SameOptimizer:
    """Keys of a discriminator that is trained by the same kind of optimizer as the generator."""

    _target_: str | None = key()
    lr: float = key(above=0)


@dataclass
class Loss:
    """Keys of every loss."""

    _target_: str = key()


@dataclass
class SmoothedLoss(Loss):
    """Keys of a loss with one-sided label smoothing."""

    label_smoothing: float = key(min=0, below=1)


@dataclass
class Penalty:
    """Keys of every penalty."""

    _target_: str | None = key()
    interval: int = key(min=1)


@dataclass
class ZeroCentred(Penalty):
    """Keys of a gradient penalty with its centre at zero."""

    gamma: float = key(min=0)


@dataclass
class OneCentred(Penalty):
    """Keys of a gradient penalty with its centre at one."""

    weight: float = key(min=0)


@dataclass
class WeightClip(Penalty):
    """Keys of weight clipping."""

    limit: float = key(above=0)


@dataclass
class Data:
    """Keys of every data set."""

    _target_: str = key()


@dataclass
class DataOnDisk(Data):
    """Keys of a data set that keeps files on the disk."""

    root: str = key()


@dataclass
class ImageFolder(DataOnDisk):
    """Keys of a folder of images."""

    folder: str = key()
    image_size: int | None = key(min=1)
    channels: int = key(choices=(1, 3))


@dataclass
class Metrics:
    """Keys of the group `metrics`."""

    names: list[str] = key(choices=tuple(METRICS))
    every: int = key(min=1)
    samples: int = key(min=2)
    split: str = key(choices=("train", "test"))
    cache: str = key()
    objective: str = key(choices=OBJECTIVES)


@dataclass
class Logging:
    """Keys of the group `logging`."""

    tensorboard: bool = key()
    progress: bool = key()
    every: int = key(min=1)
    samples_every: int = key(min=1)
    samples: int = key(min=1)


@dataclass
class Trainer:
    """Keys of the group `trainer`."""

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
    """Keys of the group `sweep`."""

    seeds: int = key(min=1)
    dry_run: bool = key()
    retry_failed: bool = key()


@dataclass
class Launcher:
    """Keys of every launcher."""

    _target_: str = key()
    n_jobs: int | None = key(min=1)
    timeout: float | None = key(above=0)
    retries: int = key(min=0)
    max_failures: int | None = key(min=1)


@dataclass
class LocalLauncher(Launcher):
    """Keys of the local launcher."""

    workers_per_gpu: int = key(min=1)


@dataclass
class VectorizedLauncher(LocalLauncher):
    """Keys of the vectorized launcher."""

    max_group: int | None = key(min=1)
    compile: bool = key()
    cuda_graphs: bool = key()
    measure: bool = key()


@dataclass
class SlurmLauncher(Launcher):
    """Keys of the Slurm launcher."""

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
    """Keys of the Ray launcher."""

    address: str = key()
    num_cpus: int = key(min=1)
    num_gpus: float = key(min=0)
    resources: dict[str, float] = key()
    object_store_memory: int | None = key(min=80 * 1024**2)


@dataclass
class OptunaSweeper:
    """Keys of the Optuna sweeper."""

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
    """The top level of a configuration."""

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
"""The schemas that the YAML files of each config group may name."""

LAUNCHERS: dict[str, type] = {
    "local_launcher": LocalLauncher,
    "vectorized_launcher": VectorizedLauncher,
    "slurm_launcher": SlurmLauncher,
    "ray_launcher": RayLauncher,
}


def _register() -> None:
    store = ConfigStore.instance()
    # Hydra copies the whole store whenever it looks into a group, a hundred times for --help.
    # The copy is not needed: there is one store, and it hands out copies of its entries.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store.store(group="schema", name="config", node=Config, package="_global_")
    for schemas in SCHEMAS.values():
        for name, schema in schemas.items():
            store.store(group="schema", name=name, node=schema)
    store.store(group="schema", name="optuna_sweeper", node=OptunaSweeper)
    for name, launcher in LAUNCHERS.items():
        store.store(group="schema", name=name, node=launcher)
    # Runs that start in the same second, on one machine or on several, need different names.
    OmegaConf.register_new_resolver(
        "token", lambda: secrets.token_hex(4), use_cache=True, replace=True
    )


_register()
