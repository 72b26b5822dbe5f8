"""A check by numbers: a run's steps in a stack must be the steps that it makes alone."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gan.build import Parts, trained_weights
from gan.config.checks import as_yaml
from gan.errors import NotSupported, first_line, is_out_of_memory
from gan.functional.step import Program, functional_step
from gan.functional.tensors import Tensors, named_tensors
from gan.run.rounding import rounding_as
from gan.run.run import Run
from gan.run.state import State
from gan.step import (
    Batch,
    StepKind,
    StepResult,
    add_statistics,
    draw_batch,
    next_step_kind,
    train_step,
    trainable_gan,
)
from gan.vectorized.run_set import step_period, weight_sizes
from gan.vectorized.stack import stack, stack_batches

TOLERANCE = 1e-4
"""The largest difference of two equal steps, relative to what the step changes."""
FLOOR = 1e-2
"""A tensor's difference is compared with its own change plus this share of its whole network's
change. Without it, the gradient of a weight that has no effect would be found to differ, because it
consists of rounding errors alone."""
ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-6}
"""Differences, relative to the values themselves, that come from rounding."""

Model = tuple[object, ...]
"""Everything in which the networks of a cohort's runs may differ."""


def model_of(run: Run) -> Model:
    """Return the sizes of a run's networks, and the settings that they were made with."""
    return weight_sizes(run), as_yaml(run.cfg.model)


def refuse_undeclared(runs: Sequence[Run]) -> None:
    """Check that the parts of these runs say that they can be stacked, and padded if need be.

    Runs that share a compiled program need the same.

    Raises:
        NotSupported: names the part that does not.
    """
    padded = len({weight_sizes(run) for run in runs}) > 1
    parts = runs[0].parts
    for name in ("generator", "discriminator", "loss", "penalty"):
        part = getattr(parts, name)
        if part is not None and not getattr(part, "stackable", False):
            raise NotSupported(f"the {name} does not say that it can be stacked (stackable)")
    for name in ("generator", "discriminator") if padded else ():
        if not getattr(getattr(parts, name), "paddable", False):
            raise NotSupported(f"the {name} does not say that it can be padded (paddable)")


def compare_steps(program: Program, runs: Sequence[Run], settings: Tensors) -> None:
    """Make steps of every kind that occurs, alone and in a stack, and compare them.

    The steps are made by copies, in double precision where the networks can be computed in it,
    so that rounding is far below any fault. The runs are not changed.

    Args:
        program: the program of the stack.
        runs: some of its runs; one is the widest.
        settings: their own values (runs,) of the numbers in which runs differ, by name.

    Raises:
        NotSupported: the steps differ by more than rounding. Names the tensor that differs most.
    """
    device = runs[0].parts.device
    precisions = [torch.float32] if device.type == "mps" else [torch.float64, torch.float32]
    with (
        rounding_as(runs[0].cfg),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
    ):
        for dtype in precisions:
            try:
                _compare_steps(program, runs, settings, dtype)
                return
            except NotSupported:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                # Networks that name a precision may not work in another one.
                if dtype is precisions[-1]:
                    raise NotSupported(first_line(error)) from error


class _Copy(NamedTuple):
    """A run's networks, optimizers and state, to be trained in its place."""

    parts: Parts
    state: State

    def tensors(self) -> Tensors:
        return named_tensors(self.parts, self.state)


def _compare_steps(
    program: Program, runs: Sequence[Run], settings: Tensors, dtype: torch.dtype
) -> None:
    alone = [_copy(run, dtype) for run in runs]
    together = [_copy(run, dtype) for run in runs]
    views = [one.tensors() for one in together]
    stacked = stack(views)
    program = program._replace(parts=program.parts._replace(autocast=None))
    for kind in _kinds_of_steps(runs[0]):
        batches = [
            _in_precision(draw_batch(one.parts, one.state, run.batches, kind, run.schedules), dtype)
            for one, run in zip(alone, runs, strict=True)
        ]
        before = [{name: t.clone() for name, t in one.tensors().items()} for one in alone]
        results = []
        for one, batch in zip(alone, batches, strict=True):
            results.append(train_step(trainable_gan(one.parts, batch.settings), batch, kind))
            add_statistics(one.state.sums, one.state.finite_steps, results[-1].statistics)
        result = functional_step(program, stacked | settings, stack_batches(batches), kind)
        for index, run in enumerate(runs):
            gradients = _gradients(alone[index].parts, results[index])
            in_stack = _gradients(alone[index].parts, result, index)
            changes = _Changes(
                before[index], alone[index].tensors(), views[index], gradients, in_stack, dtype
            )
            if name := _padding_that_changed(views[index], stacked, index):
                raise NotSupported(f"{run.name} cannot be padded, {name} would not stay zero")
            if fault := changes.worst():
                raise NotSupported(f"{run.name} would be trained to other values, {fault}")


class _Changes(NamedTuple):
    """The values of one run before a step, and after it: alone and in the stack."""

    before: Tensors
    alone: Tensors
    stacked: Tensors
    gradients: Tensors
    gradients_in_stack: Tensors
    dtype: torch.dtype

    def worst(self) -> str | None:
        """Describe the largest difference beyond rounding; None if there is none."""
        found = max(self._differences(), default=(0.0, ""))
        return found[1] if found[0] > 1 else None

    def _differences(self) -> Iterator[tuple[float, str]]:
        """Yield each difference as a multiple of what is allowed, and its description."""
        yield self._compare("statistics", "state/sums", torch.ones(()), torch.zeros(()))
        for role in ("generator", "discriminator"):
            own = {n: g for n, g in self.gradients.items() if n.startswith(f"{role}/")}
            if not own:
                continue
            total = torch.stack([gradient.norm() for gradient in own.values()]).norm()
            for name, gradient in own.items():
                difference = (self.gradients_in_stack[name] - gradient).norm()
                yield _judge(f"gradient of {name}", difference, gradient.norm() + FLOOR * total)
            yield from self._weights(role, own)
        for role in ("generator", "discriminator", "averaged_generator"):
            yield from self._buffers(role)

    def _weights(self, role: str, gradients: Tensors) -> Iterator[tuple[float, str]]:
        """Compare weights after the update, each by its effect on the loss."""
        for prefix in ("", "averaged_"):
            named = {f"{prefix}{name}": gradient for name, gradient in gradients.items()}
            weights = {name: named[name] for name in named if name in self.alone}
            changes = [
                (gradient * (self.alone[name] - self.before[name])).abs().sum()
                for name, gradient in weights.items()
            ]
            # A bias before batch norm has a gradient of rounding errors alone.
            floor = FLOOR * sum(changes, torch.zeros(()))
            for name, gradient in weights.items():
                yield self._compare(name, name, gradient, floor)

    def _buffers(self, role: str) -> Iterator[tuple[float, str]]:
        """Compare the other tensors of a network, such as means of its features."""
        names = [
            name
            for name in self.alone
            if name.startswith(f"{role}/") and name.replace("averaged_", "") not in self.gradients
        ]
        changes = [(self.alone[name] - self.before[name]).abs().sum() for name in names]
        floor = FLOOR * sum(changes, torch.zeros(()))
        for name in names:
            yield self._compare(name, name, torch.ones(()), floor)

    def _compare(self, label: str, name: str, weight: Tensor, floor: Tensor) -> tuple[float, str]:
        alone, stacked, before = self.alone[name], self.stacked[name], self.before[name]
        if not alone.is_floating_point():
            return (0.0 if torch.equal(alone, stacked) else math.inf), f"{label} differs"
        weight = weight.to(alone)
        difference = (weight * (stacked - alone)).abs().sum()
        size = (weight * (alone - before)).abs().sum() + floor.to(alone)
        rounding = ROUNDING[self.dtype] / TOLERANCE * (weight * alone).abs().sum()
        return _judge(label, difference, size + rounding)


def _judge(label: str, difference: Tensor, size: Tensor) -> tuple[float, str]:
    if not size.isfinite():
        # A run that diverges in this step is not the fault of the stack.
        return 0.0, ""
    relative = (difference / size).item() if difference else 0.0
    excess = relative / TOLERANCE
    return (math.inf if math.isnan(excess) else excess), f"{label} differs by {relative:.1e}"


def _copy(run: Run, dtype: torch.dtype) -> _Copy:
    parts = run.parts
    networks = ("generator", "discriminator", "averaged_generator")
    optimizers = ("generator_optimizer", "discriminator_optimizer")
    # In one go, because the optimizers hold the weights of the networks.
    copies = copy.deepcopy({name: getattr(parts, name) for name in (*networks, *optimizers)})
    copied = parts._replace(**copies, autocast=None, loss_scales={})
    for network in (copied.generator, copied.discriminator, copied.averaged_generator):
        if network is not None:
            network.to(dtype)
    for optimizer in (copied.generator_optimizer, copied.discriminator_optimizer):
        for values in optimizer.state.values():
            for name, value in values.items():
                if name != "step" and isinstance(value, Tensor):
                    values[name] = value.to(dtype)
    state = replace(
        run.state,
        noise=run.state.noise.clone_state(),
        sums=torch.zeros_like(run.state.sums, dtype=dtype),
        finite_steps=run.state.finite_steps.clone(),
        adaptive=copy.deepcopy(run.state.adaptive),
    )
    return _Copy(copied, state)


def _kinds_of_steps(run: Run) -> list[StepKind]:
    """Return the kinds of the run's steps, or its one kind twice, to use the state after a step."""
    kinds: dict[StepKind, None] = {}
    for ahead in range(step_period(run)):
        later = replace(run.state, step=run.step + ahead)
        kinds[next_step_kind(run.parts, later)] = None
    return list(kinds) if len(kinds) > 1 else 2 * list(kinds)


def _in_precision(batch: Batch, dtype: torch.dtype) -> Batch:
    converted: Batch = pytree.tree_map(
        lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, batch
    )
    return converted


def _gradients(parts: Parts, result: StepResult, index: int | None = None) -> Tensors:
    """Return the gradients of one run by the names of its weights."""
    found = {}
    networks: dict[str, tuple[nn.Module, Sequence[Tensor | None]]] = {
        "generator": (parts.generator, result.generator_gradients),
        "discriminator": (parts.discriminator, result.discriminator_gradients),
    }
    for role, (network, gradients) in networks.items():
        named = zip(trained_weights(network).items(), gradients, strict=bool(gradients))
        for (name, weight), gradient in named:
            if gradient is not None and index is not None:
                gradient = gradient[index][tuple(map(slice, weight.shape))]
            if gradient is not None:
                found[f"{role}/{name}"] = gradient
    return found


def _padding_that_changed(run: Tensors, stacked: Tensors, index: int) -> str | None:
    for name, tensor in run.items():
        place = stacked[name][index]
        if place.shape != tensor.shape:
            padding = place.clone()
            padding[tuple(map(slice, tensor.shape))] = 0
            if padding.any():
                return name
    return None
