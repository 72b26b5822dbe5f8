"""One training step: update the discriminator, then the generator.

A step computes on tensors only, and its random numbers are drawn before it. So the same lines train
one run eagerly, are traced to be compiled, and train many runs at once: then every tensor has a
dimension for the runs before its batch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from gan import ema
from gan.arithmetic import unscale
from gan.augment import Probability, augment, draw, flip, integers, pack
from gan.build import Parts, trained_weights
from gan.config.curves import BETAS
from gan.data import Batches
from gan.errors import UserError
from gan.losses import Loss
from gan.metrics.catalogue import STEP_STATISTICS
from gan.penalties import Consistency, Discriminator, Penalty, gradient_penalty, require_scalar
from gan.run.state import State
from gan.schedules import Schedule

Value = TypeVar("Value")


class TrainableNetwork(NamedTuple):
    """A network, its weights, and the way to update them."""

    forward: Callable[[Tensor, Tensor], Tensor]
    """Maps inputs and labels (batch,) to outputs. Unconditional networks ignore the labels."""
    weights: Sequence[Tensor]
    update: Callable[[Sequence[Tensor | None], Tensor | None], None]
    """Changes the weights in place. The first argument has a gradient for each weight, or None for
    a weight that keeps its value. The second argument is a boolean tensor, () or (runs,): where it
    is False, all weights of that run keep their values, since the scaled gradients are not finite.
    None updates every run."""
    scale: Tensor | None = None
    """The state of the loss scale (2,), see `gan.arithmetic.new_loss_scale`; None without one."""
    average: Callable[[Sequence[Tensor | None]], Sequence[Tensor | None]] | None = None
    """Averages gradients over the processes that share the batch; None if one process has it."""


class TrainableGAN(NamedTuple):
    """Both networks, and how they are trained against each other."""

    generator: TrainableNetwork
    discriminator: TrainableNetwork
    update_ema: Callable[[Tensor], None] | None
    """Moves the averaged weights towards the generator's. Its argument is the decay."""
    loss: Loss
    penalty: Penalty | None
    penalty_term: Callable[..., Tensor] | None
    """The penalty's `term` with the discriminator filled in: see `bind_term`."""
    penalty_interval: int
    one_pass: bool
    augment: tuple[str, ...]
    pac: int
    consistency: Consistency | None = None
    adapts: bool = False
    """True if the step must return `real_sign`, by which `trainer.ada_target` is followed."""
    vectorize: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    """Turns a function of one run's tensors into one of all runs' tensors."""
    batch_dim: int = 0
    """The dimension of the batch: 0 for one run, 1 for stacked runs."""


class Batch(NamedTuple):
    """The data of one step, and all random numbers that it needs."""

    real: Tensor
    """Samples (batch, ...), images in [-1, 1]."""
    labels: Tensor
    """Classes (batch,) of the real samples; the fake samples get the same."""
    z: Tensor
    """Latents (batch, latent_dim), used in both updates."""
    augmentations: tuple[tuple[Tensor, ...], ...]
    """Random numbers to augment real samples, fake ones, and those of the generator's update."""
    penalty: tuple[Tensor, ...]
    """Random numbers of the penalty."""
    ema_decay: Tensor
    """The share of the averaged weights that stays, a scalar."""
    settings: dict[str, Tensor]
    """Numbers that change while the run trains, scalars, by names such as "penalty/gamma"."""
    consistency: tuple[tuple[Tensor, ...], ...] = ()
    """Random numbers of the changes of real and of fake samples in the consistency terms."""


class StepKind(NamedTuple):
    """The parts of a step that only some steps have."""

    penalize: bool
    """Apply the penalty: add its term, times the interval, to the loss, or clip the weights."""
    update_generator: bool


Step = Callable[[Batch, StepKind], None]
"""Updates the networks of one run on a batch."""


class StepResult(NamedTuple):
    """Statistics and gradients of one step."""

    statistics: Tensor
    """The values of STEP_STATISTICS (6,). The generator's loss is 0 where it was not updated."""
    generator_gradients: Sequence[Tensor | None]
    """Empty where the generator was not updated."""
    discriminator_gradients: Sequence[Tensor | None]
    real_sign: Tensor | None = None
    """The mean sign of the logits of real samples, a scalar, if the GAN `adapts`."""


def train_step(gan: TrainableGAN, batch: Batch, kind: StepKind) -> StepResult:
    """Update the discriminator, then the generator, on one batch."""
    generator, discriminator, dim = gan.generator, gan.discriminator, gan.batch_dim
    labels, penalty = batch.labels, gan.penalty

    def view(
        samples: Tensor, random_numbers: tuple[Tensor, ...], changes: tuple[str, ...] = ()
    ) -> Tensor:
        """Return samples as the discriminator sees them: augmented, changed and packed."""
        names = gan.augment + changes
        if not names and gan.pac == 1:
            return samples
        one_run = partial(_augment_and_pack, names=names, pac=gan.pac)
        viewed: Tensor = gan.vectorize(one_run)(samples, *random_numbers)
        return viewed

    def judge(*views: Tensor) -> Sequence[Tensor]:
        """Return the logits of sets of samples, in one pass if that makes no difference."""
        if not gan.one_pass or len(views) == 1:
            return [discriminator.forward(one, labels) for one in views]
        logits = discriminator.forward(torch.cat(views, dim), torch.cat([labels] * len(views), dim))
        return logits.chunk(len(views), dim)

    # Update the discriminator.
    with torch.set_grad_enabled(kind.update_generator):
        fake = generator.forward(batch.z, labels)
    real_view = view(batch.real, batch.augmentations[0])
    fake_view = view(fake.detach(), batch.augmentations[1])
    real_logits, fake_logits = judge(real_view, fake_view)
    discriminator_loss = gan.loss.discriminator(real_logits, fake_logits)
    require_scalar(discriminator_loss, "loss", dim)
    objective = discriminator_loss
    if gan.consistency:
        names, weights = gan.consistency
        used = [index for index, weight in enumerate(weights) if weight]
        samples, before = (batch.real, fake.detach()), (real_logits, fake_logits)
        changed = judge(
            *(view(samples[i], batch.augmentations[i] + batch.consistency[i], names) for i in used)
        )
        for i, after in zip(used, changed, strict=True):
            difference = (after - before[i]).square().flatten(dim).mean(-1)
            objective = objective + weights[i] * difference
    if kind.penalize and penalty and penalty.points:
        term = gradient_penalty(
            penalty,
            lambda points: discriminator.forward(points, labels),
            real_view,
            fake_view,
            batch.penalty,
            batch_dim=dim,
            scale=discriminator.scale,
        )
        objective = objective + gan.penalty_interval * term
    if kind.penalize and gan.penalty_term:
        term = gan.penalty_term(
            labels, real_view, fake_view, real_logits, fake_logits, *batch.penalty
        )
        objective = objective + gan.penalty_interval * term
    discriminator_gradients = _update(discriminator, objective)
    if kind.penalize and penalty and penalty.clip:
        with torch.no_grad():
            for weight in discriminator.weights:
                weight.copy_(penalty.clip(weight))

    # Update the generator.
    generator_loss = torch.zeros_like(discriminator_loss)
    generator_gradients: Sequence[Tensor | None] = ()
    if kind.update_generator:
        real_logits_now = real_logits.detach()
        if gan.loss.uses_real_logits:
            with torch.no_grad():
                real_logits_now = discriminator.forward(real_view, labels)
        fake_logits_now = discriminator.forward(view(fake, batch.augmentations[2]), labels)
        generator_loss = gan.loss.generator(real_logits_now, fake_logits_now)
        require_scalar(generator_loss, "loss", dim)
        generator_gradients = _update(generator, generator_loss)
        if gan.update_ema:
            gan.update_ema(batch.ema_decay)

    logits = torch.stack([real_logits, fake_logits], dim).detach().flatten(dim + 1)
    prob_real, prob_fake = logits.sigmoid().mean(-1).unbind(dim)
    logit_real, logit_fake = logits.mean(-1).unbind(dim)
    statistics = {
        "loss/discriminator": discriminator_loss.detach(),
        "loss/generator": generator_loss.detach(),
        "prob/real": prob_real,
        "prob/fake": prob_fake,
        "logit/real": logit_real,
        "logit/fake": logit_fake,
    }
    return StepResult(
        torch.stack([statistics[name] for name in STEP_STATISTICS], dim),
        generator_gradients,
        discriminator_gradients,
        real_logits.detach().sign().flatten(dim).mean(-1) if gan.adapts else None,
    )


def eager_step(parts: Parts, state: State, batch: Batch, kind: StepKind) -> None:
    """Update one run's networks by its own optimizers, operation by operation."""
    add_result(state, train_step(trainable_gan(parts, batch.settings), batch, kind))


def add_result(state: State, result: StepResult) -> None:
    """Add the statistics of a step to those of one run."""
    add_statistics(state.sums, state.finite_steps, result.statistics)
    if state.adaptive and result.real_sign is not None:
        state.adaptive.signs.add_(result.real_sign)


def next_step_kind(parts: Parts, state: State) -> StepKind:
    """Return the kind of a run's next step."""
    return StepKind(
        penalize=state.step % parts.penalty_interval == 0,
        update_generator=(state.step + 1) % parts.n_critic == 0,
    )


def draw_batch(
    parts: Parts,
    state: State,
    batches: Batches,
    kind: StepKind | None = None,
    schedules: Mapping[str, Schedule] = MappingProxyType({}),
) -> Batch:
    """Return the data of a run's next step, and draw its random numbers.

    Args:
        kind: the kind of the step, if it is to be another than the run's next one.
        schedules: what `build_schedules` returns.
    """
    numbers = {name: schedule(state.step) for name, schedule in schedules.items()}
    half_life = numbers.pop("trainer/ema_half_life", parts.ema_half_life)
    augment_p = numbers.pop("trainer/augment_p", parts.augment_p)
    real, labels = batches.batch(state.step)
    kind = kind or next_step_kind(parts, state)
    size, noise = len(real), state.noise
    if parts.flip:
        real = flip(real, integers(size, 0, 1, noise))
    z = torch.randn(size, parts.latent_dim, generator=noise, device=parts.device)
    views = 2 + kind.update_generator
    probability: Probability = augment_p
    if parts.ada and state.adaptive:
        state.adaptive.adjust(parts.ada, size, most=augment_p)
        probability = state.adaptive.p
    augmentations = tuple(draw(real.shape, parts.augment, noise, probability) for _ in range(views))
    consistency: tuple[tuple[Tensor, ...], ...] = ()
    if parts.consistency:
        consistency = tuple(draw(real.shape, parts.consistency.names, noise) for _ in range(2))
    penalty: tuple[Tensor, ...] = ()
    if kind.penalize and parts.penalty and parts.penalty.draw:
        drawn = parts.penalty.draw(pack(real, parts.pac), noise)
        penalty = (drawn,) if isinstance(drawn, Tensor) else tuple(drawn)
    decay = 1.0
    if parts.averaged_generator and kind.update_generator:
        new, seen = parts.n_critic * size, (state.step + 1) * size
        decay = ema.decay(half_life, parts.ema_ramp_up, seen, new)
    dtype = precise_dtype(parts.device)
    settings = {name: torch.tensor(number, dtype=dtype) for name, number in numbers.items()}
    return Batch(
        real, labels, z, augmentations, penalty, torch.tensor(decay), settings, consistency
    )


def precise_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of settings as tensors: double where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def add_statistics(sums: Tensor, finite_steps: Tensor, statistics: Tensor) -> None:
    """Add the statistics of a step to their sums, and count the step if all sums are finite.

    This does not wait for the device.

    Args:
        sums: (6,). finite_steps: a scalar. statistics: (6,).
    """
    sums.add_(statistics)
    finite_steps.add_(sums.isfinite().all(-1))


def count_step(state: State, kind: StepKind) -> None:
    """Count a step that was made."""
    state.step += 1
    state.summed_steps += 1
    state.generator_updates += kind.update_generator
    if state.adaptive:
        state.adaptive.steps += 1


def trainable_gan(
    parts: Parts, settings: Mapping[str, Tensor] = MappingProxyType({})
) -> TrainableGAN:
    """Return one run's networks, updated by its own optimizers. Gradients stay with the weights.

    Args:
        settings: numbers of the optimizers, the loss and the penalty that take the place of their
            own in this step, see `Batch`.
    """
    numbers = {name: number.item() for name, number in settings.items()}
    of_loss, of_penalty = below(numbers, "loss"), below(numbers, "penalty")
    loss = parts.make_loss(**of_loss) if of_loss else parts.loss
    penalty = parts.make_penalty(**of_penalty) if of_penalty else parts.penalty

    def trainable(role: str) -> TrainableNetwork:
        network, optimizer = getattr(parts, role), getattr(parts, f"{role}_optimizer")
        set_numbers(optimizer, below(numbers, f"{role}_optimizer"))
        weights = list(trained_weights(network).values())
        return TrainableNetwork(
            partial(forward, network, parts),
            weights,
            partial(_step_optimizer, optimizer),
            parts.loss_scales.get(role),
        )

    def update_ema(decay: Tensor) -> None:
        assert parts.averaged_generator is not None
        ema.update(parts.averaged_generator, parts.generator, decay.item())

    return TrainableGAN(
        trainable("generator"),
        trainable("discriminator"),
        update_ema if parts.averaged_generator else None,
        loss=loss,
        penalty=penalty,
        penalty_term=bind_term(penalty, partial(forward, parts.discriminator, parts)),
        penalty_interval=parts.penalty_interval,
        one_pass=parts.one_pass,
        augment=parts.augment,
        pac=parts.pac,
        consistency=parts.consistency,
        adapts=parts.ada is not None,
    )


def set_numbers(optimizer: torch.optim.Optimizer, numbers: Mapping[str, float]) -> None:
    """Set numbers of an optimizer by their names, such as "lr" and "beta2"."""
    for group in optimizer.param_groups:
        for name, number in numbers.items():
            if name in BETAS:
                betas = list(group["betas"])
                betas[BETAS.index(name)] = number
                # Of the type that this version of torch keeps them in.
                group["betas"] = type(group["betas"])(betas)
            else:
                group[name] = number


def below(named: Mapping[str, Value], prefix: str) -> dict[str, Value]:
    """Return the entries whose names begin with PREFIX/, named without it."""
    return {
        name.removeprefix(f"{prefix}/"): value
        for name, value in named.items()
        if name.startswith(f"{prefix}/")
    }


def bind_term(
    penalty: Penalty | None, discriminator: Callable[..., Tensor]
) -> Callable[..., Tensor] | None:
    """Return a penalty's term with the discriminator filled in, or None if it has no term.

    Args:
        discriminator: a function of samples, labels and, for features, of `features=True`.

    Returns:
        A function of labels, real samples, fake ones, their logits and random numbers.
    """
    if penalty is None or penalty.term is None:
        return None
    term, uses_features = penalty.term, penalty.uses_features

    def bound(labels: Tensor, *given: Tensor) -> Tensor:
        def features(samples: Tensor) -> Tensor:
            if not uses_features:
                raise UserError("penalty: uses the discriminator's features, but does not say so")
            return discriminator(samples, labels, features=True)

        seen = Discriminator(lambda samples: discriminator(samples, labels), features)
        return require_scalar(term(seen, *given), "penalty")

    return bound


def forward(
    network: Callable[..., Tensor], parts: Parts, inputs: Tensor, labels: Tensor, **options: bool
) -> Tensor:
    """Return a network's outputs, computed in the precision that the run asks for.

    Args:
        options: passed to the network, such as `features=True`.
    """
    given = (inputs, labels) if parts.conditional else (inputs,)
    # A context for each use, because autocast keeps the cast weights until it ends.
    kind, dtype = inputs.device.type, parts.autocast
    with torch.autocast(kind, dtype or torch.bfloat16, enabled=dtype is not None):
        outputs = network(*given, **options)
    return outputs if dtype is None else outputs.float()


def _augment_and_pack(
    samples: Tensor, *random_numbers: Tensor, names: tuple[str, ...], pac: int
) -> Tensor:
    return pack(augment(samples, names, random_numbers), pac)


def _update(network: TrainableNetwork, objective: Tensor) -> Sequence[Tensor | None]:
    """Update a network to lower an objective, one for each run, and return the gradients."""
    if network.scale is not None:
        objective = objective * network.scale.select(-1, 0)
    # Each run's objective depends on its own weights only, so the sum over runs has the gradients
    # of all of them.
    gradients: Sequence[Tensor | None]
    gradients = torch.autograd.grad(objective.sum(), list(network.weights), allow_unused=True)
    if network.average:
        gradients = network.average(gradients)
    finite = None
    if network.scale is not None:
        gradients, finite = unscale(gradients, network.scale)
    network.update(gradients, finite)
    return gradients


def _step_optimizer(
    optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor | None], finite: Tensor | None
) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None and gradient.stride() != weight.stride():
            # Fused optimizers walk through the memory of both in the same order.
            gradient = torch.empty_like(weight).copy_(gradient)
        weight.grad = gradient
    # An optimizer of any package can be left out, which waits for the device.
    if finite is None or finite.item():
        optimizer.step()
