"""Training of one run by several processes, each on its rows of every batch.

All random numbers of a step are in its batch, which every process draws as a whole. So the result
is that of one process, except for rounding. See `gan.distributed.processes` for who does what.
"""

import copy
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan.arithmetic import exact_matmul
from gan.augment import pack
from gan.build import Parts
from gan.config.checks import plain
from gan.distributed.processes import OutOfStep, Processes, TrainingEnded, current_processes
from gan.distributed.whole_batch import gather_rows, shared_batch_norm
from gan.errors import ProcessLost, StartFailed, UserError
from gan.penalties import require_scalar
from gan.run.run import Run
from gan.run.signals import StopRequest
from gan.run.state import State, initial_state, to_checkpoint
from gan.step import (
    Batch,
    StepKind,
    StepResult,
    TrainableGAN,
    TrainableNetwork,
    add_result,
    draw_batch,
    forward,
    train_step,
    trainable_gan,
)
from gan.system.invocation import command_line

REHEARSED_PACKS = 4
"""Packs of samples of each process in the rehearsal."""
PROBED_ROWS = 8
"""Rows of each process in the probes of a loss or a penalty."""
PROBES = 3
"""Times that a function is tried with other numbers."""
ROUNDING = 1e-4
"""The difference, as a share of the whole, from which two results of fp32 are not the same one."""


class Plan(NamedTuple):
    """The functions that need the whole batch: their result is not the mean of those of slices."""

    loss: bool
    points: bool
    """The points at which a gradient penalty looks depend on other samples."""
    cost: bool


class Training(Protocol):
    """The part of a run that training changes."""

    @property
    def parts(self) -> Parts:
        """The networks and what trains them."""

    @property
    def state(self) -> State:
        """Everything else that training changes."""


class SharedTraining:
    """The steps of one process, on its rows of each batch."""

    def __init__(
        self,
        processes: Processes,
        training: Training,
        plan: Plan,
        stop: StopRequest,
        checked_every: int,
    ):
        """Make no step yet.

        Args:
            stop: the signal that this process got.
            checked_every: steps from one comparison of all weights to the next.
        """
        self._processes, self._plan, self._stop = processes, plan, stop
        self._parts, self._state = training.parts, training.state
        self._checked_every = checked_every
        # These processes may have trained and stopped another run.
        processes.signal = None

    @property
    def signal(self) -> Any:
        """The stop signal on which all processes have agreed, if any."""
        return self._processes.signal

    def step(self, batch: Batch, kind: StepKind) -> None:
        """Update the networks on a batch of all processes.

        Raises:
            TrainingEnded: rank 0 makes no further step.
            ProcessLost: a process has died.
        """
        processes, parts = self._processes, self._parts
        is_checked = self._state.step % self._checked_every == 0
        networks = (parts.generator, parts.discriminator)
        processes.announce(self._stop.signal, checksum=checksum(networks) if is_checked else 0)
        try:
            result = shared_step(
                processes, self._plan, trainable_gan(parts, batch.settings), batch, kind
            )
        except TrainingEnded:
            raise
        except BaseException:
            # The others are in the middle of the same step.
            processes.abandon()
            raise
        add_result(self._state, result)

    def end(self) -> None:
        """Tell the followers that there is no further step, or wait to be told."""
        try:
            while self._processes.is_usable:
                self._processes.announce(end=self._processes.rank == 0)
                self._processes.agree()
        except (TrainingEnded, ProcessLost, OutOfStep):
            pass


@contextmanager
def shared_training(processes: Processes, run: Run, stop: StopRequest) -> Iterator[SharedTraining]:
    """Let the followers take the steps of a run in the block, beginning with its present state.

    Raises:
        ProcessLost: a process has died.
    """
    plan = make_plan(run.parts, processes.size)
    buffer = io.BytesIO()
    torch.save(to_checkpoint(run.parts, run.state), buffer)
    content = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    processes.send("train", plain(run.cfg), plan, run.total_steps, len(content))
    training = SharedTraining(processes, run, plan, stop, run.cfg.trainer.checkpoint_every)
    try:
        processes.broadcast(content)
        yield training
    except ProcessLost as error:
        raise ProcessLost(
            f"{run.run_dir}: another of its {processes.size} processes has died; continue from "
            f"the last checkpoint with: {command_line('resume', run.run_dir)}",
            error.exit_code,
        ) from error
    finally:
        training.end()


def rehearsal() -> Callable[[DictConfig, Parts], None] | None:
    """Return a check of a new run on all of its processes; None if one process trains it.

    The check comes before anything is stored.
    """
    processes = current_processes()
    if processes is None:
        return None

    def check(cfg: DictConfig, parts: Parts) -> None:
        rehearse(processes, cfg, parts)

    return check


def rehearse(processes: Processes, cfg: DictConfig, parts: Parts) -> None:
    """Compare the gradients of the processes with those of one process for the same batch.

    Rank 0 calls this, and the followers `take_part_in_rehearsal`. The parts stay as they are.

    Raises:
        UserError: they differ by more than rounding, or a part keeps a state.
    """
    for group, part in (("loss", parts.loss), ("penalty", parts.penalty)):
        if part and part.state:
            raise UserError(
                f"{group}._target_={cfg[group]._target_}: keeps a state from step to step, so each "
                "process would have its own; train with one process"
            )
    plan = make_plan(parts, processes.size)
    whole = _rehearsed(cfg, parts, processes.size, lambda gan, b, kind: train_step(gan, b, kind))
    processes.send("build", plain(cfg), plan)
    processes.connect(parts.device)
    try:
        shared = take_part_in_rehearsal(processes, plan, cfg, parts)
    except ProcessLost as error:
        raise StartFailed(
            f"one of {processes.size} processes could not build the run; see what it printed"
        ) from error
    networks = {
        "generator": (whole.generator_gradients, shared.generator_gradients),
        "discriminator": (whole.discriminator_gradients, shared.discriminator_gradients),
    }
    for role, (expected, found) in networks.items():
        if not difference(expected, found) <= ROUNDING:
            raise UserError(_why_different(cfg, parts, role, processes.size))


def take_part_in_rehearsal(
    processes: Processes, plan: Plan, cfg: DictConfig, parts: Parts
) -> StepResult:
    """Return the result of a step that all processes take with copies of the networks."""

    def step(gan: TrainableGAN, batch: Batch, kind: StepKind) -> StepResult:
        return shared_step(processes, plan, gan, batch, kind)

    return _rehearsed(cfg, parts, processes.size, step)


def shared_step(
    processes: Processes, plan: Plan, gan: TrainableGAN, batch: Batch, kind: StepKind
) -> StepResult:
    """Take this process's part in a step of all, and return the result that all get."""
    with shared_batch_norm(processes):
        result = train_step(
            _share(processes, plan, gan), _own_rows(processes, gan.pac, batch), kind
        )
    given = [result.statistics, *([] if result.real_sign is None else [result.real_sign])]
    statistics, *sign = processes.average(given)
    assert statistics is not None
    return result._replace(statistics=statistics, real_sign=sign[0] if sign else None)


def make_plan(parts: Parts, size: int) -> Plan:
    """Find by numbers which functions need the whole batch where `size` processes share it."""
    loss, penalty = parts.loss, parts.penalty
    shape, device, pac = parts.data.shape, parts.device, parts.pac
    rows = PROBED_ROWS * size
    samples = torch.zeros(rows * pac, *shape, device=device)
    labels = torch.zeros(rows * pac, dtype=torch.int64, device=device)
    discriminator = copy.deepcopy(parts.discriminator).eval()
    noise = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=noise, device=device)

    with torch.no_grad(), exact_matmul(), _forked(device):
        logits_shape = forward(discriminator, parts, pack(samples, pac), labels).shape
        of_loss = of_points = of_cost = False
        for _ in range(PROBES):
            real, fake = 2 * normal(*logits_shape) + 0.5, 2 * normal(*logits_shape) - 0.5
            for function in (loss.discriminator, loss.generator):
                of_loss |= _needs_all(function, size, real, fake, group="loss")
            if penalty and penalty.points and penalty.cost:
                views = pack(normal(*samples.shape), pac), pack(normal(*samples.shape), pac)
                drawn: Any = penalty.draw(views[0], noise) if penalty.draw else ()
                numbers = (drawn,) if isinstance(drawn, Tensor) else tuple(drawn)
                whole = penalty.points(*views, *numbers)
                slices = [
                    penalty.points(
                        *(_slice(tensor, rows, size, i) for tensor in (*views, *numbers))
                    )
                    for i in range(size)
                ]
                joined = [torch.cat(some) for some in zip(*slices, strict=True)]
                of_points |= not difference(whole, joined) <= ROUNDING
                squared = normal(rows).square()
                of_cost |= _needs_all(penalty.cost, size, squared, group="penalty")
    return Plan(of_loss, of_points, of_cost)


def difference(expected: Sequence[Tensor | None], found: Sequence[Tensor | None]) -> float:
    """Return the distance of tensors as a share of their norm; infinite if they do not fit."""
    if [one is None for one in expected] != [one is None for one in found]:
        return float("inf")
    squared = distance = 0.0
    for one, other in zip(expected, found, strict=True):
        if one is not None and other is not None:
            if one.shape != other.shape:
                return float("inf")
            squared += float(one.double().square().sum())
            distance += float((one.double() - other.double()).square().sum())
    return float((distance / squared) ** 0.5) if squared else (float("inf") if distance else 0.0)


def checksum(networks: Sequence[nn.Module]) -> int:
    """Return a number that is the same for the same weights. This waits for the device."""
    weights = [weight.detach() for network in networks for weight in network.parameters()]
    total = torch.stack([weight.double().sum() for weight in weights]).sum()
    # The bits of a sum that is not finite may differ.
    return int(total.view(torch.int64)) if total.isfinite() else 0


def _share(processes: Processes, plan: Plan, gan: TrainableGAN) -> TrainableGAN:
    """Return networks whose gradients are means over the processes, for the whole batch."""
    loss, penalty = gan.loss, gan.penalty
    if plan.loss:
        loss = loss._replace(
            discriminator=_of_all(processes, loss.discriminator),
            generator=_of_all(processes, loss.generator),
        )
    if penalty and penalty.points and plan.points:
        penalty = penalty._replace(points=_points_of_all(processes, penalty.points))
    if penalty and penalty.cost and plan.cost:
        penalty = penalty._replace(cost=_of_all(processes, penalty.cost))
    return gan._replace(
        generator=gan.generator._replace(average=processes.average),
        discriminator=gan.discriminator._replace(average=processes.average),
        loss=loss,
        penalty=penalty,
    )


def _of_all(processes: Processes, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function of the rows of this process that computes with those of all."""

    def of_all(*given: Tensor) -> Tensor:
        return function(*(gather_rows(processes, rows) for rows in given))

    return of_all


def _points_of_all(
    processes: Processes, points: Callable[..., tuple[Tensor, ...]]
) -> Callable[..., tuple[Tensor, ...]]:
    """Return a function of own samples whose points are those of all samples, the own ones."""

    def of_all(real: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        count = len(real)
        # The points are taken as constants.
        with torch.no_grad():
            whole = points(
                *(
                    gather_rows(processes, one) if one.dim() and len(one) == count else one
                    for one in (real, *given)
                )
            )
        size, rank = processes.size, processes.rank
        return tuple(_slice(one, size * count, size, rank) for one in whole)

    return of_all


def _own_rows(processes: Processes, pac: int, batch: Batch) -> Batch:
    """Return the rows of this process of everything in a batch that has rows."""
    size, rank, rows = processes.size, processes.rank, len(batch.real)

    def own(tensor: Tensor, rows: int = rows) -> Tensor:
        return _slice(tensor, rows, size, rank)

    return batch._replace(
        real=own(batch.real),
        labels=own(batch.labels),
        z=own(batch.z),
        augmentations=tuple(tuple(map(own, numbers)) for numbers in batch.augmentations),
        # A penalty may draw numbers that have no rows, and those of packs have fewer.
        penalty=tuple(own(numbers, rows // pac) for numbers in batch.penalty),
        consistency=tuple(tuple(map(own, numbers)) for numbers in batch.consistency),
    )


def _slice(tensor: Tensor, rows: int, size: int, rank: int) -> Tensor:
    """Return a process's rows of a tensor, or the tensor if it does not have that many rows."""
    if tensor.dim() == 0 or len(tensor) != rows:
        return tensor
    count = rows // size
    return tensor[rank * count : (rank + 1) * count]


def _needs_all(function: Callable[..., Tensor], size: int, *given: Tensor, group: str) -> bool:
    """Return whether a function of a batch is not the mean of the same function of its slices."""

    def value(*tensors: Tensor) -> float:
        # A function may draw numbers.
        torch.manual_seed(0)
        return float(require_scalar(function(*tensors), group))

    whole = value(*given)
    values = [value(*(_slice(one, len(one), size, i) for one in given)) for i in range(size)]
    largest = max(abs(one) for one in values)
    return not abs(whole - sum(values) / size) <= ROUNDING * largest


def _rehearsed(
    cfg: DictConfig,
    parts: Parts,
    size: int,
    step: Callable[[TrainableGAN, Batch, StepKind], StepResult],
) -> StepResult:
    """Return the result of a step with copies of the networks, in fp32."""
    parts = parts._replace(
        generator=_perturbed(parts.generator),
        discriminator=_perturbed(parts.discriminator),
        averaged_generator=None,
        autocast=None,
        loss_scales={},
    )
    kind = StepKind(penalize=True, update_generator=True)
    with exact_matmul(), _forked(parts.device):
        state = initial_state(parts, cfg.seed)
        batch = draw_batch(parts, state, parts.data.batches(cfg.trainer.batch_size, cfg.seed), kind)
        torch.manual_seed(0)
        return step(_without_updates(trainable_gan(parts)), _few(batch, parts.pac, size), kind)


def _few(batch: Batch, pac: int, size: int) -> Batch:
    """Return the first rows of a batch."""
    rows = len(batch.real)
    few = min(rows, REHEARSED_PACKS * pac * size)

    def first(tensor: Tensor, rows: int = rows, few: int = few) -> Tensor:
        return tensor[:few] if tensor.dim() and len(tensor) == rows else tensor

    return batch._replace(
        real=first(batch.real),
        labels=first(batch.labels),
        z=first(batch.z),
        augmentations=tuple(tuple(map(first, numbers)) for numbers in batch.augmentations),
        penalty=tuple(first(numbers, rows // pac, few // pac) for numbers in batch.penalty),
        consistency=tuple(tuple(map(first, numbers)) for numbers in batch.consistency),
    )


def _perturbed(network: nn.Module) -> nn.Module:
    """Return a copy of a network in which no weight is zero, so that every part of it counts."""
    network = copy.deepcopy(network)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=noise).to(weight.device))
    return network


def _without_updates(gan: TrainableGAN) -> TrainableGAN:
    def keep(network: TrainableNetwork) -> TrainableNetwork:
        return network._replace(update=lambda gradients, finite: None)

    return gan._replace(generator=keep(gan.generator), discriminator=keep(gan.discriminator))


@contextmanager
def _forked(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _why_different(cfg: DictConfig, parts: Parts, role: str, size: int) -> str:
    """Return why the processes do not get the gradients of the whole batch, as far as is known."""
    where = f"model._target_={cfg.model._target_}"
    hint = f"so {size} processes would train another run than one does; train with one process"
    rows = PROBED_ROWS * size
    z = torch.randn(rows * parts.pac, parts.latent_dim).to(parts.device)
    labels = torch.zeros(len(z), dtype=torch.int64, device=parts.device)

    def outputs(network: nn.Module, inputs: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return forward(copy.deepcopy(network), parts, inputs, labels[: len(inputs) * parts.pac])

    with torch.no_grad(), exact_matmul(), _forked(parts.device):
        samples = outputs(parts.generator, z, 0)
        for name, inputs in (("generator", z), ("discriminator", pack(samples, parts.pac))):
            network = _perturbed(getattr(parts, name))
            whole = outputs(network, inputs, 0)
            if difference([whole], [outputs(network, inputs, 1)]) > ROUNDING:
                return f"{where}: its {name} draws random numbers, {hint}"
            # Batch norm is shared by the processes, and looks at no other sample here.
            network.eval()
            whole = outputs(network, inputs, 0)
            slices = [outputs(network, one, 0) for one in inputs.chunk(size)]
            if difference([whole], [torch.cat(slices)]) > ROUNDING:
                return f"{where}: its {name} looks at several samples at once, {hint}"
    group = "penalty" if parts.penalty else "model"
    target = cfg[group]._target_
    return (
        f"{group}._target_={target}: the {role}'s gradients for a batch are not the mean of those "
        f"for its parts, {hint}"
    )
