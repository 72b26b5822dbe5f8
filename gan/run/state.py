"""The state of a run that training changes, and its way into a checkpoint and back."""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gan.augment import AdaptiveProbability
from gan.build import Parts
from gan.data import Data, Scaling
from gan.errors import UserError
from gan.losses import Loss
from gan.metrics.catalogue import STEP_STATISTICS
from gan.penalties import Penalty
from gan.run.checkpoint import refuse_unreadable
from gan.run.contents import PLAIN, Contents, changed, contents
from gan.seeds import derive_seed, plain_numpy_state, random_states, set_global_states

log = logging.getLogger(__name__)


@dataclass
class State:
    """Everything that training changes, except the networks and their optimizers."""

    noise: torch.Generator
    """Draws the latents of training and the random numbers of penalties and augmentation."""
    sums: Tensor
    """Sums of STEP_STATISTICS (6,) over the steps since the last record."""
    finite_steps: Tensor
    """The number of steps before the first loss that was not finite."""
    summed_steps: int = 0
    """Steps since the last record."""
    generator_updates: int = 0
    """Updates of the generator since the last record."""
    step: int = 0
    seconds: float = 0.0
    """Seconds of training, those before a resume included."""
    adaptive: AdaptiveProbability | None = None
    """The probability of augmentations, if `trainer.ada_target` adapts it."""
    contents: dict[str, Contents] = field(default_factory=dict)
    """The contents of the loss and the penalty before the first step."""
    is_checked: bool = False
    """True once it is known that a checkpoint holds everything, and can be read."""
    kept_by_networks: Contents | None = None
    """The values that the networks kept outside of a checkpoint after the first step."""


def initial_state(parts: Parts, seed: int) -> State:
    """Return the state before the first step."""
    return State(
        noise=torch.Generator(parts.device).manual_seed(derive_seed(seed, "noise")),
        sums=torch.zeros(len(STEP_STATISTICS), device=parts.device),
        finite_steps=torch.zeros((), dtype=torch.int64, device=parts.device),
        adaptive=AdaptiveProbability.start(parts.device) if parts.ada else None,
        contents={"loss": contents(parts.loss), "penalty": contents(parts.penalty)},
    )


def check_first_step(parts: Parts, state: State) -> None:
    """Check after the first step that a checkpoint would hold everything, and could be read.

    The second step shows whether a network changes what no checkpoint holds. This is a warning,
    since the network may keep it for people to look at.

    Raises:
        UserError: it would not, because of the optimizer, the loss or the penalty.
    """
    if not state.is_checked:
        refuse_unreadable(to_checkpoint(parts, state))
        state.is_checked = True
        state.kept_by_networks = _kept_by_networks(parts)
    elif state.kept_by_networks is not None:
        if place := changed(state.kept_by_networks, _kept_by_networks(parts)):
            log.warning(
                "%s changes from step to step, and no checkpoint holds it: a resumed run may end "
                "in another way; let the network keep it as a buffer",
                place,
            )
        state.kept_by_networks = None


def to_checkpoint(parts: Parts, state: State) -> dict[str, Any]:
    """Return tensors and plain values from which a run goes on, bit for bit on a CPU.

    Raises:
        UserError: the loss or the penalty keeps a state that its state_dict does not return.
    """
    _refuse_hidden_state("loss", parts.loss, parts.make_loss, state)
    _refuse_hidden_state("penalty", parts.penalty, parts.make_penalty, state)
    averaged, states = parts.averaged_generator, random_states(parts.device)
    # The names are part of the file format.
    return {
        "step": state.step,
        "image_shape": list(parts.data.shape),
        "classes": parts.data.classes,
        "scaling": scaling_content(parts.data),
        "seconds": state.seconds,
        "sums": state.sums,
        "summed": state.summed_steps,
        "generator_updates": state.generator_updates,
        "healthy": state.finite_steps,
        "noise": state.noise.get_state(),
        "random": states.torch,
        "cuda_random": states.cuda,
        "numpy_random": plain_numpy_state(states),
        "python_random": states.python,
        "generator": parts.generator.state_dict(),
        "discriminator": parts.discriminator.state_dict(),
        "average": averaged.state_dict() if averaged else None,
        "generator_optimizer": parts.generator_optimizer.state_dict(),
        "discriminator_optimizer": parts.discriminator_optimizer.state_dict(),
        "loss": _state_dict(parts.loss),
        "penalty": _state_dict(parts.penalty),
        "loss_scales": parts.loss_scales,
        "adaptive": dict(vars(state.adaptive)) if state.adaptive else None,
    }


def scaling_content(data: Data) -> dict[str, Tensor] | None:
    """Return the scaling of a data set as plain values; None if it has none."""
    scaling: Scaling | None = getattr(data, "scaling", None)
    return scaling._asdict() if scaling else None


def from_checkpoint(parts: Parts, state: State, saved: dict[str, Any]) -> None:
    """Put the content of a checkpoint, read on the CPU, back in place."""
    state.step, state.seconds = saved["step"], saved["seconds"]
    state.summed_steps, state.generator_updates = saved["summed"], saved["generator_updates"]
    state.sums.copy_(saved["sums"])
    state.finite_steps.copy_(saved["healthy"])
    for role, scale in parts.loss_scales.items():
        scale.copy_(saved["loss_scales"][role])
    if state.adaptive:
        state.adaptive.p.copy_(saved["adaptive"]["p"])
        state.adaptive.signs.copy_(saved["adaptive"]["signs"])
        state.adaptive.steps = saved["adaptive"]["steps"]
    torch.set_rng_state(saved["random"])
    # Checkpoints of earlier versions have no such states.
    if "numpy_random" in saved:
        set_global_states(saved["numpy_random"], saved["python_random"])
    if state.noise.get_state().shape == saved["noise"].shape:
        state.noise.set_state(saved["noise"])
    else:
        # Another kind of device cannot read this state. A new stream begins with the number of the
        # step, so that the run does not draw the numbers of its first steps again.
        state.noise.manual_seed(derive_seed(state.noise.initial_seed(), state.step))
    if _on_cuda(parts) and saved["cuda_random"] is not None:
        torch.cuda.set_rng_state(saved["cuda_random"], parts.device)
    parts.generator.load_state_dict(saved["generator"])
    parts.discriminator.load_state_dict(saved["discriminator"])
    if parts.averaged_generator:
        parts.averaged_generator.load_state_dict(saved["average"])
    _load_optimizer(parts.generator_optimizer, saved["generator_optimizer"])
    _load_optimizer(parts.discriminator_optimizer, saved["discriminator_optimizer"])
    for group, part in (("loss", parts.loss), ("penalty", parts.penalty)):
        if part and part.state:
            on_device = tree_map_only(Tensor, lambda t: t.to(parts.device), saved[group])
            part.state.load_state_dict(on_device)


def _kept_by_networks(parts: Parts) -> Contents:
    """Return the plain attributes of the networks' layers, and buffers that are not stored."""
    found: dict[str, Any] = {}
    for role, network in (("generator", parts.generator), ("discriminator", parts.discriminator)):
        for name, layer in network.named_modules(prefix=role):
            kept = {key: getattr(layer, key) for key in layer._non_persistent_buffers_set}
            kept |= {key: value for key, value in vars(layer).items() if isinstance(value, PLAIN)}
            found |= {f"{name}.{key}": value for key, value in kept.items() if key[0] != "_"}
    return contents(found)


def _state_dict(part: Loss | Penalty | None) -> dict[str, Any] | None:
    return part.state.state_dict() if part and part.state else None


def _refuse_hidden_state(
    group: str,
    part: Loss | Penalty | None,
    make: Callable[[], Loss | Penalty | None],
    state: State,
) -> None:
    """Refuse a loss or a penalty that a resumed run could not make again from what is saved."""
    now = contents(part)
    again = make()
    if part and again and part.state and again.state:
        again.state.load_state_dict(copy.deepcopy(part.state.state_dict()))
    else:
        # Variables of a module are the same for all losses that are made.
        if place := changed(state.contents[group], now):
            raise UserError(
                f"{group}: keeps a state ({place} changes in training) that no checkpoint holds; "
                "let its function return an object with state_dict and load_state_dict"
            )
    if place := changed(contents(again), now):
        raise UserError(
            f"{group}: a resumed run could not restore {place}; its state_dict must return "
            "everything that changes in training"
        )


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    optimizer.load_state_dict(saved)
    # A fused step pairs values by their place in memory. Checkpoints keep the memory's order,
    # which may be another one on another device.
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _on_cuda(parts: Parts) -> bool:
    return parts.device.type == "cuda"
