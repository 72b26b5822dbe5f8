"""Every tensor that training changes, by name, and the settings in which runs may differ."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan.build import Parts, optimizer_settings, plain_settings
from gan.functional.optimizers import prepare
from gan.run.state import State

Tensors = dict[str, Tensor]


def tensors(parts: Parts, state: State) -> Tensors:
    """The tensors themselves: changing them changes the run.

    Names are GENERATOR/WEIGHT, OPTIMIZER/WEIGHT/STATE and so on; the optimizers get the state that
    they would make at their first step.

    Raises:
        Unfit: an optimizer is none that gan.functional.optimizers knows.
    """
    found: Tensors = {"state/sums": state.sums, "state/healthy": state.healthy}
    for role in ("generator", "discriminator", "average"):
        network = getattr(parts, role)
        if network is not None:
            found |= {f"{role}/{name}": tensor for name, tensor in _tensors_of(network)}
    for role in ("generator", "discriminator"):
        optimizer = getattr(parts, f"{role}_optimizer")
        prepare(optimizer)
        for name, weight in getattr(parts, role).named_parameters():
            for key, value in optimizer.state[weight].items():
                found[f"{role}_optimizer/{name}/{key}"] = value
    return found


def below(found: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """What has names below PREFIX, by the rest of these."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in found.items()
        if name.startswith(f"{prefix}/")
    }


Numbers = dict[str, float]


def numbers(cfg: DictConfig) -> Numbers:
    """The settings in which runs that share a program may differ, as loss/label_smoothing,
    generator_optimizer/beta1 and so on."""
    groups = {
        "loss": plain_settings(cfg.loss),
        "penalty": plain_settings(cfg.penalty),
        "generator_optimizer": optimizer_settings(cfg, "generator"),
        "discriminator_optimizer": optimizer_settings(cfg, "discriminator"),
    }
    groups["penalty"].pop("interval")
    found: Numbers = {}
    for group, settings in groups.items():
        settings.pop("_target_")
        if "betas" in settings:
            settings["beta1"], settings["beta2"] = settings.pop("betas")
        found |= {f"{group}/{name}": value for name, value in settings.items()}
    return found


def varied(all_numbers: Sequence[Numbers]) -> tuple[str, ...]:
    """The names of those settings in which runs do differ."""
    first = all_numbers[0]
    return tuple(name for name in first if any(other[name] != first[name] for other in all_numbers))


def as_tensors(
    all_numbers: Sequence[Numbers], names: Sequence[str], device: torch.device
) -> Tensors:
    """Settings as tensors (members,), in double precision where the device has it."""
    dtype = torch.float32 if device.type == "mps" else torch.float64
    return {
        name: torch.tensor([float(one[name]) for one in all_numbers], dtype=dtype, device=device)
        for name in names
    }


def _tensors_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()
