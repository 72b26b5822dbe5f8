"""What changes as a run goes on, and its way into a checkpoint and back."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gan.build import Parts
from gan.seeds import stream


@dataclass
class State:
    """What changes beside the networks and their optimizers."""

    noise: torch.Generator
    """Draws the latents of training, and what penalties and augmentation need."""
    sums: Tensor
    """Of the training statistics, over the steps since the last record."""
    healthy: Tensor
    """How many steps passed before the first loss that was not finite."""
    summed: int = 0
    generator_updates: int = 0
    """Since the last record."""
    step: int = 0
    seconds: float = 0.0


def initial(parts: Parts, seed: int, statistics: int) -> State:
    """The state before the first step, with that many training statistics."""
    return State(
        noise=torch.Generator(parts.device).manual_seed(stream(seed, "noise")),
        sums=torch.zeros(statistics, device=parts.device),
        healthy=torch.zeros((), dtype=torch.int64, device=parts.device),
    )


def snapshot(parts: Parts, state: State) -> dict[str, Any]:
    """Tensors and plain values from which `restore` goes on bit for bit on the CPU."""
    return {
        "step": state.step,
        "image_shape": list(parts.data.shape),
        "classes": parts.data.classes,
        "seconds": state.seconds,
        "sums": state.sums,
        "summed": state.summed,
        "generator_updates": state.generator_updates,
        "healthy": state.healthy,
        "noise": state.noise.get_state(),
        "random": torch.get_rng_state(),
        "cuda_random": torch.cuda.get_rng_state(parts.device) if _cuda(parts) else None,
        "generator": parts.generator.state_dict(),
        "discriminator": parts.discriminator.state_dict(),
        "average": parts.average.state_dict() if parts.average else None,
        "generator_optimizer": parts.generator_optimizer.state_dict(),
        "discriminator_optimizer": parts.discriminator_optimizer.state_dict(),
    }


def restore(parts: Parts, state: State, saved: dict[str, Any]) -> None:
    """Put a snapshot, read back on the CPU, in place."""
    state.step, state.seconds, state.summed = saved["step"], saved["seconds"], saved["summed"]
    state.generator_updates = saved["generator_updates"]
    state.sums.copy_(saved["sums"])
    state.healthy.copy_(saved["healthy"])
    torch.set_rng_state(saved["random"])
    # A generator's state has meaning on its own kind of device alone.
    if state.noise.get_state().shape == saved["noise"].shape:
        state.noise.set_state(saved["noise"])
    if _cuda(parts) and saved["cuda_random"] is not None:
        torch.cuda.set_rng_state(saved["cuda_random"], parts.device)
    parts.generator.load_state_dict(saved["generator"])
    parts.discriminator.load_state_dict(saved["discriminator"])
    if parts.average:
        parts.average.load_state_dict(saved["average"])
    _refill(parts.generator_optimizer, saved["generator_optimizer"])
    _refill(parts.discriminator_optimizer, saved["discriminator_optimizer"])


def _refill(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    optimizer.load_state_dict(saved)
    # A fused step pairs values by their place in memory, and checkpoints keep that order: those
    # of a run on another device may have another one.
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _cuda(parts: Parts) -> bool:
    return parts.device.type == "cuda"
