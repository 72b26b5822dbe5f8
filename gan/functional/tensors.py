"""Every tensor that training changes, by name, and the hyperparameters in which runs may differ."""

from collections.abc import Iterator, Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan.build import Parts, optimizer_settings, trained_weights
from gan.config.checks import plain
from gan.errors import NotSupported
from gan.functional.optimizers import prepare_state
from gan.run.state import State
from gan.step import precise_dtype

Tensors = dict[str, Tensor]
"""Tensors by name, such as generator/layers.0.weight."""

Hyperparameters = dict[str, float]
"""Numbers by name, such as loss/label_smoothing or generator_optimizer/beta1."""


def named_tensors(parts: Parts, state: State) -> Tensors:
    """Return a run's own tensors, not copies: changing them changes the run.

    Names are NETWORK/WEIGHT, OPTIMIZER/WEIGHT/STATE and so on. The optimizers get the state that
    they would make at their first step.

    Raises:
        NotSupported: gan.functional.optimizers does not know an optimizer.
    """
    tensors: Tensors = {"state/sums": state.sums, "state/finite_steps": state.finite_steps}
    if state.adaptive:
        tensors["state/real_signs"] = state.adaptive.signs
    tensors |= {f"loss_scale/{role}": scale for role, scale in parts.loss_scales.items()}
    for role in ("generator", "discriminator", "averaged_generator"):
        network = getattr(parts, role)
        if network is not None:
            tensors |= {f"{role}/{name}": tensor for name, tensor in _tensors_of(network)}
    for role in ("generator", "discriminator"):
        optimizer = getattr(parts, f"{role}_optimizer")
        prepare_state(optimizer)
        for name, weight in trained_weights(getattr(parts, role)).items():
            for key, value in optimizer.state[weight].items():
                tensors[f"{role}_optimizer/{name}/{key}"] = value
    return tensors


def hyperparameters(cfg: DictConfig) -> Hyperparameters:
    """Return the numbers in which runs of one program may differ."""
    groups = {
        "loss": plain(cfg.loss),
        "penalty": plain(cfg.penalty),
        "generator_optimizer": optimizer_settings(cfg, "generator"),
        "discriminator_optimizer": optimizer_settings(cfg, "discriminator"),
    }
    groups["penalty"].pop("interval")
    numbers: Hyperparameters = {}
    for group, settings in groups.items():
        settings.pop("_target_")
        if "betas" in settings and group.endswith("optimizer"):
            settings["beta1"], settings["beta2"] = settings.pop("betas")
        numbers |= {f"{group}/{name}": value for name, value in settings.items()}
    return numbers


def differing(runs: Sequence[Hyperparameters]) -> tuple[str, ...]:
    """Return the names of the hyperparameters in which runs differ."""
    first = runs[0]
    return tuple(name for name in first if any(other[name] != first[name] for other in runs))


def as_tensors(
    runs: Sequence[Hyperparameters], names: Sequence[str], device: torch.device
) -> Tensors:
    """Return hyperparameters as tensors (runs,), in double precision where the device has it.

    Raises:
        NotSupported: the runs differ in a setting that is no number, such as a list.
    """
    for name in names:
        if not isinstance(runs[0][name], int | float):
            raise NotSupported(f"{name} differs, and is no number")
    dtype = precise_dtype(device)
    return {
        name: torch.tensor([float(one[name]) for one in runs], dtype=dtype, device=device)
        for name in names
    }


def _tensors_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()
