"""Weights that a run starts from: another run's, a checkpoint's or those in a safetensors file.

What counts is the content. `trainer.init_hash` is a hash of the weights, and part of the run's
identity; `trainer.init_from` is the place where they are. Imports torch only where a run has such.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from gan.config.checks import flatten
from gan.config.overrides import as_override, escaped
from gan.errors import UserError
from gan.run.directory import CONFIG_FILE, read_config
from gan.system.files import expanded

if TYPE_CHECKING:
    from torch import Tensor

    from gan.build import Parts

Weights = dict[str, "Mapping[str, Tensor]"]
"""The weights of the "generator" and of the "discriminator" by their names."""

KEYS = "trainer.init_from", "trainer.init_hash"


def with_init_hash(cfg: DictConfig, run_dir: Path | None = None) -> DictConfig:
    """Return the configuration with the hash of the weights that it names, and their full path.

    Args:
        run_dir: the run's directory. If the run exists, its weights may be gone by now.

    Raises:
        UserError: no weights can be read there.
    """
    place, expected = cfg.trainer.get("init_from"), cfg.trainer.get("init_hash")
    if place is None:
        if expected is not None:
            raise UserError(f"trainer.init_hash={expected}: needs trainer.init_from")
        return cfg
    if not place:
        raise UserError("trainer.init_from=: must be the path of a run, or null for none")
    path = Path(expanded(place)).absolute()
    if expected is None and not path.exists() and run_dir and (run_dir / CONFIG_FILE).exists():
        stored = read_config(run_dir).trainer
        expected = stored.get("init_hash") if stored.get("init_from") == str(path) else None
    found = {"init_from": str(path), "init_hash": expected or _hash_at(path)}
    completed = OmegaConf.merge(cfg, escaped({"trainer": found}))
    assert isinstance(completed, DictConfig)
    return completed


def with_init_overrides(overrides: Sequence[str], cfg: DictConfig) -> list[str]:
    """Return overrides that name the same weights from any working directory.

    Args:
        cfg: the configuration that they give, as `with_init_hash` returns it.
    """
    path, content = cfg.trainer.get("init_from"), cfg.trainer.get("init_hash")
    if path is None:
        return list(overrides)
    others = [text for text in overrides if text.lstrip("+").partition("=")[0] not in KEYS]
    own = {"trainer.init_from": path, "trainer.init_hash": content}
    return [*others, *(f"{key}={as_override(value)}" for key, value in own.items())]


def load_initial_weights(parts: "Parts", cfg: DictConfig) -> None:
    """Put the weights that `trainer.init_from` names into the networks and the average.

    Networks that the file does not hold keep the weights that they were built with.

    Raises:
        UserError: no weights can be read there, they have changed, or they do not fit.
    """
    from gan.run.checkpoint import first_misfit

    path = Path(cfg.trainer.init_from)
    weights = read_weights(path)
    if (found := content_hash(weights)) != cfg.trainer.init_hash:
        raise UserError(
            f"trainer.init_from={path}: its weights have changed, their hash is {found} and was "
            f"{cfg.trainer.init_hash}; restore them, or train a new run with "
            "trainer.init_hash=null, which takes those that are there"
        )
    networks = {"generator": parts.generator, "discriminator": parts.discriminator}
    for role, own in weights.items():
        if problem := first_misfit(networks[role].state_dict(), own):
            raise UserError(
                f"trainer.init_from={path}: the {role}'s weight {problem}{_hint(path, cfg)}"
            )
    for role, own in weights.items():
        networks[role].load_state_dict(own)
    if parts.averaged_generator:
        parts.averaged_generator.load_state_dict(parts.generator.state_dict())


def read_weights(path: Path) -> Weights:
    """Return the weights in a run's newest readable checkpoint, a checkpoint or a safetensors file.

    In a safetensors file, names begin with `generator.` or `discriminator.`. If none does, they are
    the generator's.

    Raises:
        UserError: there are no such weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from gan.run.checkpoint import load_checkpoint, load_newest_checkpoint

    where = f"trainer.init_from={path}"
    if not path.exists():
        raise UserError(f"{where}: does not exist")
    if path.suffix == ".safetensors":
        try:
            named = load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{where}: cannot be read ({error})") from error
        saved: dict[str, Any] = {}
        for name, weight in named.items():
            role, _, rest = name.partition(".")
            saved.setdefault(role, {})[rest] = weight
        if not saved.keys() & {"generator", "discriminator"}:
            saved = {"generator": named}
    elif path.is_dir():
        if not (path / CONFIG_FILE).exists():
            raise UserError(f"{where}: not a run directory, it has no {CONFIG_FILE}")
        content = load_newest_checkpoint(path)
        if content is None:
            raise UserError(f"{where}: has no checkpoint that can be read")
        saved = content
    else:
        saved = load_checkpoint(path, where)
    weights: Weights = {
        role: saved[role] for role in ("generator", "discriminator") if role in saved
    }
    if not weights or not all(map(len, weights.values())):
        raise UserError(f"{where}: holds no weights of a generator or a discriminator")
    return weights


def content_hash(weights: Weights) -> str:
    """Return a hash of the names, types, shapes and values of weights, and of nothing else."""
    import torch

    digest = hashlib.sha256()
    for role in sorted(weights):
        for name, weight in sorted(weights[role].items()):
            digest.update(f"{role} {name} {weight.dtype} {tuple(weight.shape)}\n".encode())
            digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _hash_at(path: Path) -> str:
    files = [path, *(path / "checkpoints").glob("*.pt")] if path.is_dir() else [path]
    changes = [(str(file), file.stat().st_mtime_ns) for file in sorted(files) if file.exists()]
    return _hash_of_state(path, tuple(changes))


@cache
def _hash_of_state(path: Path, changes: tuple[tuple[str, int], ...]) -> str:
    # The jobs of a sweep mostly start from the same weights.
    return content_hash(read_weights(path))


def _hint(path: Path, cfg: DictConfig) -> str:
    """Return the first setting in which the run of the weights has other networks."""
    run_dir = path if path.is_dir() else path.parent.parent
    if (run_dir / CONFIG_FILE).exists():
        old, new = flatten(read_config(run_dir)), flatten(cfg)
        for key in old | new:
            decides = key.startswith(("model.", "data.")) or key == "trainer.pac"
            if decides and key != "data.root" and old.get(key) != new.get(key):
                return f"; set {key}={old.get(key)}, as that run has, and not {new.get(key)}"
    return "; choose the model and the data that these weights were trained with"
