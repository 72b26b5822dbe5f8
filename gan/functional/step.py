"""A training step of tensors by name, of one run or of many runs that share a program."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gan.arithmetic import like
from gan.build import Parts, call_target, trained_weights
from gan.config.checks import plain
from gan.errors import NotSupported
from gan.functional.optimizers import broadcastable, functional_optimizer
from gan.functional.tensors import (
    Hyperparameters,
    Tensors,
    differing,
    hyperparameters,
)
from gan.losses import Loss, as_loss
from gan.penalties import Penalty, as_penalty
from gan.step import (
    Batch,
    StepKind,
    StepResult,
    TrainableGAN,
    TrainableNetwork,
    add_statistics,
    below,
    bind_term,
    forward,
    train_step,
)

Function = Callable[..., Any]


class Program(NamedTuple):
    """Everything but tensors that the training steps of one run, or of several runs, need."""

    parts: Parts
    """The parts of one of the runs. Named tensors take the place of its own tensors."""
    settings: dict[str, dict[str, Any]]
    """The groups `loss` and `penalty` of the configuration."""
    hyperparameters: Hyperparameters
    """The values of one of the runs. Those in `varied` are replaced by each run's own."""
    varied: tuple[str, ...]
    """The hyperparameters in which runs differ. Their values come as tensors, below settings/."""
    stacked: bool
    """Every tensor has a dimension for the runs before its own dimensions."""

    def fits(self, other: Hyperparameters) -> bool:
        """Return whether a run with these hyperparameters can share the program."""
        return set(differing([self.hyperparameters, other])) <= set(self.varied)

    def vectorize(self, function: Function) -> Function:
        """Turn a function of one run's tensors into one of all runs' tensors."""
        return vmap(function) if self.stacked else function


def make_program(
    cfg: DictConfig, parts: Parts, *, varied: Sequence[str] = (), stacked: bool = False
) -> Program:
    """Return the program of a run, or of several runs that differ in the `varied` numbers only.

    Raises:
        NotSupported: the loss or the penalty keeps a state, which is no tensor of the program.
    """
    for group, part in (("loss", parts.loss), ("penalty", parts.penalty)):
        if part and part.state:
            raise NotSupported(f"the {group} keeps a state from step to step")
    return Program(
        parts,
        {group: plain(cfg[group]) for group in ("loss", "penalty")},
        hyperparameters(cfg),
        tuple(varied),
        stacked,
    )


def functional_step(program: Program, tensors: Tensors, batch: Batch, kind: StepKind) -> StepResult:
    """Train on one batch by changing the tensors."""
    # Numbers that change from step to step override those of the run and of the program.
    tensors = tensors | {f"settings/{name}": value for name, value in batch.settings.items()}
    result = train_step(_trainable_gan(program, tensors), batch, kind)
    add_statistics(tensors["state/sums"], tensors["state/finite_steps"], result.statistics)
    if result.real_sign is not None:
        tensors["state/real_signs"].add_(result.real_sign)
    return result


def _trainable_gan(program: Program, tensors: Tensors) -> TrainableGAN:
    parts = program.parts
    averaged = parts.averaged_generator
    generator, discriminator = (
        _differentiable(getattr(parts, role), below(tensors, role))
        for role in ("generator", "discriminator")
    )
    return TrainableGAN(
        _trainable_network(program, tensors, "generator", generator),
        _trainable_network(program, tensors, "discriminator", discriminator),
        partial(_update_ema, tensors, averaged) if averaged else None,
        loss=_loss(program, tensors),
        penalty=_penalty(program, tensors),
        penalty_term=_penalty_term(program, tensors, discriminator),
        penalty_interval=parts.penalty_interval,
        one_pass=parts.one_pass,
        augment=parts.augment,
        pac=parts.pac,
        consistency=parts.consistency,
        adapts=parts.ada is not None,
        vectorize=program.vectorize,
        batch_dim=int(program.stacked),
    )


def _differentiable(network: nn.Module, tensors: Tensors) -> Tensors:
    """Return a network's weights as leaves of a new autograd graph, and then its other tensors.

    They share the memory of `tensors`, so that updates are seen there.
    """
    names = trained_weights(network)
    return {name: tensors[name].detach().requires_grad_() for name in names} | {
        name: buffer for name, buffer in tensors.items() if name not in names
    }


def _trainable_network(
    program: Program, tensors: Tensors, role: str, own: Tensors
) -> TrainableNetwork:
    parts = program.parts
    weights = {name: tensor for name, tensor in own.items() if tensor.requires_grad}
    optimizer = f"{role}_optimizer"
    update_weight = functional_optimizer(getattr(parts, optimizer)).update
    settings = below(program.hyperparameters, optimizer) | below(tensors, f"settings/{optimizer}")

    def update(gradients: Sequence[Tensor | None], finite: Tensor | None) -> None:
        with torch.no_grad():
            for name, gradient in zip(weights, gradients, strict=True):
                if gradient is None:
                    continue
                state = below(tensors, f"{optimizer}/{name}")
                changing = [] if finite is None else [weights[name], *state.values()]
                before = [tensor.clone() for tensor in changing]
                update_weight(weights[name], gradient, state, settings)
                for tensor, old in zip(changing, before, strict=True):
                    assert finite is not None
                    tensor.copy_(tensor.where(like(finite, tensor), old))

    call = program.vectorize(partial(_call_network, parts, role))
    scale = tensors.get(f"loss_scale/{role}")
    return TrainableNetwork(partial(call, own), list(weights.values()), update, scale)


def _call_network(
    parts: Parts, role: str, tensors: Tensors, inputs: Tensor, labels: Tensor, **options: bool
) -> Tensor:
    """Return the outputs of one run's network that has these weights and buffers."""

    def with_tensors(*given: Tensor, **options: bool) -> Tensor:
        outputs: Tensor = functional_call(getattr(parts, role), tensors, given, options)
        return outputs

    return forward(with_tensors, parts, inputs, labels, **options)


def _update_ema(tensors: Tensors, averaged_generator: nn.Module, decay: Tensor) -> None:
    weights = {name for name, _ in averaged_generator.named_parameters()}
    with torch.no_grad():
        for name, average in below(tensors, "averaged_generator").items():
            now = tensors[f"generator/{name}"]
            if name in weights:
                average.lerp_(now, 1 - broadcastable(decay, average))
            else:
                average.copy_(now)


def _loss(program: Program, tensors: Tensors) -> Loss:
    function = partial(_with_own_settings, program, tensors, "loss")
    return program.parts.loss._replace(
        discriminator=function("discriminator"), generator=function("generator")
    )


def _penalty(program: Program, tensors: Tensors) -> Penalty | None:
    own = program.parts.penalty
    if own is None:
        return None
    names = [name for name in ("points", "cost", "clip") if getattr(own, name)]
    functions: dict[str, Any] = {
        name: _with_own_settings(program, tensors, "penalty", name) for name in names
    }
    return own._replace(**functions)


def _penalty_term(
    program: Program, tensors: Tensors, discriminator: Tensors
) -> Callable[..., Tensor] | None:
    parts = program.parts
    if parts.penalty is None or parts.penalty.term is None:
        return None

    def call(own: Tensors, discriminator: Tensors, *given: Tensor) -> Tensor:
        network = partial(_call_network, parts, "discriminator", discriminator)
        term = bind_term(_with_settings(program, "penalty", own), network)
        assert term
        return term(*given)

    own = below(tensors, "settings/penalty")
    return partial(program.vectorize(call), own, discriminator)


def _with_own_settings(program: Program, tensors: Tensors, group: str, name: str) -> Function:
    """Return a function of the loss or the penalty that uses each run's own settings."""

    def call(own: Tensors, *given: Tensor) -> Any:
        return getattr(_with_settings(program, group, own), name)(*given)

    return partial(program.vectorize(call), below(tensors, f"settings/{group}"))


def _with_settings(program: Program, group: str, own: Tensors) -> Any:
    """Return the loss or the penalty, with its own values of the settings in which runs differ."""
    if not own:
        return getattr(program.parts, group)
    made = call_target(group, program.settings[group] | own)
    return as_loss(made) if group == "loss" else as_penalty(made)
