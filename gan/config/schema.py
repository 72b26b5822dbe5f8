"""The type and the range of every configuration key.

Groups whose options name a function have the parameters of that function as their keys. Defaults
are not here: they live in the YAML files under conf/. This module imports no torch, so that
composing a configuration stays fast.
"""

import secrets
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

import omegaconf
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from gan.config.signatures import Setting, find_folder, is_in_notebook, read_signature
from gan.metrics.catalogue import METRICS, OBJECTIVES

_PACKAGE = Path(__file__).resolve().parents[1]
CONF_DIR = next(
    # An installed package has the folder inside, a checkout has it beside the package.
    (path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir()),
    _PACKAGE / "conf",
)
"""The folder of the config groups of this package."""


ENTRY_POINTS = "gan.conf"
"""The group of entry points by which installed packages add folders of config groups."""


def installed_folders() -> dict[str, Path | None]:
    """Return the folder of each entry point by its name; None if there is no such folder."""
    entries = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)
    return {entry.name: find_folder(entry.value) for entry in entries}


def key(**limits: Any) -> Any:
    """Declare a key without a default, and its limits.

    Limits: `min` and `max` (inclusive), `above` and `below` (exclusive), `choices`, `pattern` (a
    regular expression that the whole text must match), `length` (of a list) and `path` (the text
    names a file or a folder).
    """
    return field(default=MISSING, metadata=limits)


@dataclass
class Metrics:
    """Keys of the group `metrics`."""

    names: list[str] = key(choices=tuple(METRICS))
    every: int = key(min=1)
    samples: int = key(min=2)
    real: str = key(pattern=r"same|all|[1-9]\d*")
    split: str = key(choices=("train", "test"))
    protocol: str | None = key()
    cache: str = key(path=True)
    objective: str | None = key(choices=OBJECTIVES)


@dataclass
class Logging:
    """Keys of the group `logging`."""

    tensorboard: bool = key()
    progress: bool = key()
    every: int = key(min=1)
    samples_every: int | None = key(min=1)
    samples_every_epochs: int | None = key(min=1)
    samples: int = key(min=1)
    trackers: dict[str, Any] = key()


AUGMENTATIONS = ("translation", "cutout", "colour", "flip")
"""The names of `gan.augment.AUGMENTATIONS`, which imports torch."""


@dataclass
class Trainer:
    """Keys of the group `trainer`."""

    max_steps: int | None = key(min=1)
    max_epochs: int | None = key(min=1)
    batch_size: int = key(min=1)
    n_critic: int = key(min=1)
    pac: int = key(min=1)
    flip: bool = key()
    augment: list[str] = key(choices=AUGMENTATIONS)
    augment_p: float = key(min=0, max=1)
    ada_target: float | None = key(above=-1, below=1)
    ada_images: int = key(min=1)
    consistency: list[str] = key(choices=AUGMENTATIONS)
    consistency_real: float = key(min=0)
    consistency_fake: float = key(min=0)
    init_from: str | None = key()
    init_hash: str | None = key(pattern=r"[0-9a-f]{16}")
    ema_half_life: float | None = key(above=0)
    ema_ramp_up: float | None = key(above=0)
    precision: str = key(choices=("fp32", "tf32", "bf16", "fp16"))
    compile: Any = key(choices=(True, False, "auto"))
    cuda_graphs: bool = key()
    profile: bool = key()
    checkpoint_every: int = key(min=1)
    keep_best: str | None = key(choices=tuple(METRICS))
    patience: int | None = key(min=1)


@dataclass
class Sweep:
    """Keys of the group `sweep`."""

    seeds: int = key(min=1)
    where: str | None = key()
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
class ClusterLauncher(Launcher):
    """Keys of the launchers of clusters."""

    vectorized: bool = key()
    max_group: int | None = key(min=1)
    compile: bool = key()
    cuda_graphs: bool = key()
    measure: bool = key()
    processes: int = key(min=1)
    detach: bool = key()


@dataclass
class SlurmLauncher(ClusterLauncher):
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
    controller: dict[str, Any] = key()


@dataclass
class RayLauncher(ClusterLauncher):
    """Keys of the Ray launcher."""

    address: str = key()
    num_cpus: int = key(min=1)
    num_gpus: float = key(min=0)
    resources: dict[str, float] = key()
    object_store_memory: int | None = key(min=80 * 1024**2)


@dataclass
class RandomSweeper:
    """Keys of the random sweeper."""

    _target_: str = key()
    params: dict[str, Any] = key()
    n_trials: int = key(min=1)


@dataclass
class OptunaSweeper:
    """Keys of the Optuna sweeper."""

    _target_: str = key()
    params: dict[str, Any] = key()
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
class Expected:
    """A number that the file of an experiment states, for `gan compare DIR check`.

    It stands in a list, so its defaults are here.
    """

    metric: str = field(default=MISSING, metadata={"choices": OBJECTIVES})
    least: float | None = None
    most: float | None = None
    runs: int = field(default=1, metadata={"min": 1})
    where: str | None = None


@dataclass
class CurveKeys:
    """Keys of a curve below the group `schedule`: see `gan.config.curves.Curve`.

    A curve stands in no YAML file of its own, so its defaults are here.
    """

    values: list[float | None] = key()
    at: list[float] | None = None
    unit: str = field(default="share", metadata={"choices": ("share", "steps", "images")})
    shape: str = field(default="linear", metadata={"choices": ("linear", "cosine", "step")})


CURVE_GROUPS = ("optimizer", "discriminator_optimizer", "loss", "penalty", "trainer")
"""Groups whose numbers may have a curve, below the group `schedule`."""


@dataclass
class Config:
    """The top level of a configuration."""

    model: Any = key()
    optimizer: Any = key()
    discriminator_optimizer: Any = key()
    schedule: Any = key()
    loss: Any = key()
    penalty: Any = key()
    data: Any = key()
    features: Any = key()
    metrics: Any = key()
    logging: Any = key()
    trainer: Any = key()
    sweep: Any = key()
    seed: int = key(min=0, below=2**63)
    device: str = key(pattern=r"auto|cpu|cuda|cuda:\d+|mps")
    threads: int | None = key(min=1)
    matmul: str | None = key(choices=("default", "onednn"))
    name: str = key(pattern=r"[\w.-]{1,64}")
    tags: list[str] = key()
    notes: str = key()
    expected: list[Expected] = key()


SCHEMAS: dict[str, type] = {
    "metrics": Metrics,
    "logging": Logging,
    "trainer": Trainer,
    "sweep": Sweep,
}
"""The keys of the config groups whose options name no target."""


class TargetGroup(NamedTuple):
    """A config group whose options name a function. Its parameters are keys of the group."""

    own: dict[str, Setting] = {}  # noqa: RUF012
    """Keys that the program reads itself."""
    defaults: dict[str, Any] = {}  # noqa: RUF012
    """Values of those keys for an option that does not set them."""
    given: tuple[str, ...] = ()
    """Parameters that the program gives to the function."""
    limits: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    """Ranges of parameters by name, for functions of other packages that state none."""


_OPTIMIZER = TargetGroup(
    given=("params", "fused"),
    limits={
        "lr": {"above": 0},
        "weight_decay": {"min": 0},
        "betas": {"min": 0, "below": 1},
        "eps": {"above": 0},
        "alpha": {"min": 0, "below": 1},
        "momentum": {"min": 0, "below": 1},
    },
)

TARGET_GROUPS = {
    "model": TargetGroup(
        {"conditional": Setting(bool, {}, False)},
        {"conditional": False},
        ("image_shape", "classes", "pac"),
    ),
    "optimizer": _OPTIMIZER,
    "discriminator_optimizer": _OPTIMIZER._replace(own={"lr": Setting(float, {"above": 0}, True)}),
    "schedule": TargetGroup(
        {group: Setting(dict[str, Any], {}, False) for group in CURVE_GROUPS},
        given=("total_steps",),
    ),
    "loss": TargetGroup(),
    "penalty": TargetGroup({"interval": Setting(int, {"min": 1}, False)}, {"interval": 1}),
    "data": TargetGroup(),
    "features": TargetGroup(given=("image_shape",)),
}
"""The config groups whose options name a function, in `_target_`."""

GROUPS = tuple(entry.name for entry in fields(Config) if entry.type is Any)
"""All config groups that are parts of a configuration."""

GLOBAL_GROUPS = ("recipe", "experiment")
"""Config groups that may set any key. A run is known by their options."""

PROTOCOL = "metrics.protocol"
"""The key of the protocol by which a run is measured. The option of the group `protocol` says only
which one was asked for."""


def settings_of(group: str, target: str | None) -> dict[str, Setting]:
    """Return the keys that an option of a group may have, beside `_target_`.

    Raises:
        UserError: the target cannot be read. The message is to be read after its key and value.
    """
    own, _, given, limits = TARGET_GROUPS[group]
    if target is None:
        return own
    found = {n: s for n, s in read_signature(target).settings.items() if n not in given}
    ranges = {n: limits.get(n, {}) | s.limits for n, s in found.items()}
    settings = {n: s._replace(limits=ranges[n]) for n, s in found.items()}
    for name, one in own.items():
        # The program reads these keys as well, so they keep their types and ranges.
        written = settings.get(name, one)
        settings[name] = written._replace(type=one.type, limits=written.limits | one.limits)
    return settings


def target_schema(group: str, target: str | None, names: tuple[str, ...]) -> type:
    """Return the schema of an option of a group that sets the keys of these names.

    Raises:
        UserError: see `settings_of`.
    """
    make = _target_schema if is_in_notebook(target) else _target_schema_once
    return make(group, target, names)


def _target_schema(group: str, target: str | None, names: tuple[str, ...]) -> type:
    settings = settings_of(group, target)
    kinds: list[tuple[str, Any, Any]] = [("_target_", str | None, key())]
    for name in names:
        setting = settings.get(name, Setting(Any, {}, False))
        kinds.append((name, setting.type, key(**setting.limits)))
    return make_dataclass(group, kinds)


_target_schema_once = lru_cache(maxsize=1024)(_target_schema)


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
    for name, schema in SCHEMAS.items():
        store.store(group="schema", name=name, node=schema)
    store.store(group="schema", name="optuna_sweeper", node=OptunaSweeper)
    store.store(group="schema", name="random_sweeper", node=RandomSweeper)
    for name, launcher in LAUNCHERS.items():
        store.store(group="schema", name=name, node=launcher)
    # Runs that start in the same second, on one machine or on several, need different names.
    # OmegaConf 2.4 has another name for this, and warns of the old one.
    is_old = omegaconf.__version__.startswith("2.3.")
    register = getattr(OmegaConf, "register_new_resolver" if is_old else "register_resolver")
    register("token", lambda: secrets.token_hex(4), use_cache=True, replace=True)


_register()
