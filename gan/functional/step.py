"""A training step of tensors by name, of one run or of many runs that share a program."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from hydra.utils import get_method
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gan.build import Parts
from gan.functional.optimizers import broadcastable, functional_optimizer
from gan.functional.tensors import (
    Hyperparameters,
    Tensors,
    below,
    differing,
    hyperparameters,
)
from gan.losses import Loss
from gan.penalties import Penalty
from gan.step import (
    Batch,
    StepKind,
    StepResult,
    TrainableGAN,
    TrainableNetwork,
    add_statistics,
    forward,
    train_step,
)

Function = Callable[..., Any]


class Program(NamedTuple):
    """Everything but tensors that the training steps of one run, or of several runs, need."""

    parts: Parts
    """The parts of one of the runs. Named tensors take the place of its own tensors."""
    loss: str
    """The dotted name of the function that makes the loss."""
    penalty: str | None
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
    """Return the program of a run, or of several runs that differ in the `varied` numbers only."""
    return Program(
        parts,
        cfg.loss._target_,
        cfg.penalty._target_,
        hyperparameters(cfg),
        tuple(varied),
        stacked,
    )


def functional_step(program: Program, tensors: Tensors, batch: Batch, kind: StepKind) -> StepResult:
    """Train on one batch by changing the tensors."""
    result = train_step(_trainable_gan(program, tensors), batch, kind)
    add_statistics(tensors["state/sums"], tensors["state/finite_steps"], result.statistics)
    return result


def _trainable_gan(program: Program, tensors: Tensors) -> TrainableGAN:
    parts = program.parts
    averaged = parts.averaged_generator
    return TrainableGAN(
        _trainable_network(program, tensors, "generator"),
        _trainable_network(program, tensors, "discriminator"),
        partial(_update_ema, tensors, averaged) if averaged else None,
        loss=_loss(program, tensors),
        penalty=_penalty(program, tensors),
        penalty_interval=parts.penalty_interval,
        one_pass=parts.one_pass,
        augment=parts.augment,
        pac=parts.pac,
        vectorize=program.vectorize,
        batch_dim=int(program.stacked),
    )


def _trainable_network(program: Program, tensors: Tensors, role: str) -> TrainableNetwork:
    parts, network = program.parts, getattr(program.parts, role)
    names = [name for name, _ in network.named_parameters()]
    buffers = below(tensors, role)
    # The weights share the tensors' memory, so updates are seen. The autograd graph begins here.
    weights = {name: buffers.pop(name).detach().requires_grad_() for name in names}
    optimizer = f"{role}_optimizer"
    update_weight = functional_optimizer(getattr(parts, optimizer)).update
    settings = below(program.hyperparameters, optimizer) | below(tensors, f"settings/{optimizer}")

    def call(weights: Tensors, buffers: Tensors, inputs: Tensor, labels: Tensor) -> Tensor:
        def with_tensors(*given: Tensor) -> Tensor:
            outputs: Tensor = functional_call(network, weights | buffers, given)
            return outputs

        return forward(with_tensors, parts, inputs, labels)

    def update(gradients: Sequence[Tensor | None]) -> None:
        with torch.no_grad():
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    state = below(tensors, f"{optimizer}/{name}")
                    update_weight(weights[name], gradient, state, settings)

    return TrainableNetwork(
        partial(program.vectorize(call), weights, buffers), list(weights.values()), update
    )


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
    return Loss(
        function("discriminator"), function("generator"), program.parts.loss.uses_real_logits
    )


def _penalty(program: Program, tensors: Tensors) -> Penalty | None:
    own = program.parts.penalty
    if own is None:
        return None
    function = partial(_with_own_settings, program, tensors, "penalty")
    if own.clip:
        return Penalty(clip=function("clip"))
    return Penalty(points=function("points"), cost=function("cost"), draw=own.draw)


def _with_own_settings(program: Program, tensors: Tensors, group: str, name: str) -> Function:
    """Return a function of the loss or the penalty that uses each run's own settings."""
    factory = get_method(getattr(program, group))
    shared = below(program.hyperparameters, group)
    own = below(tensors, f"settings/{group}")

    def call(own: Tensors, *given: Tensor) -> Any:
        return getattr(factory(**(shared | own)), name)(*given)

    return partial(program.vectorize(call), own)
