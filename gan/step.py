"""One training step: an update of the discriminator, then one of the generator.

A step is made of tensors alone, and what it draws at random is drawn before it. So the same lines
train one run, many at once (where tensors have members before their batch), and are traced.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gan import ema
from gan.augment import augment, draw
from gan.build import Parts
from gan.data import Batches
from gan.losses import Loss
from gan.metrics.catalogue import STEP_STATISTICS
from gan.packing import pack
from gan.penalties import Penalty, term
from gan.run.state import State

STATISTICS = STEP_STATISTICS


class Player(NamedTuple):
    """A network in training."""

    forward: Callable[[Tensor, Tensor], Tensor]
    """Of its inputs and labels (batch,), which count where networks are conditional."""
    weights: Sequence[Tensor]
    update: Callable[[Sequence[Tensor | None]], None]
    """Changes the weights in place, given their gradients; None for one without."""


class Game(NamedTuple):
    """Two players and the rules."""

    generator: Player
    discriminator: Player
    average: Callable[[Tensor], None] | None
    """Moves the averaged weights towards the generator's, so much of them being kept."""
    loss: Loss
    penalty: Penalty | None
    penalty_interval: int
    joint: bool
    augment: tuple[str, ...]
    pac: int
    each: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    """Makes of a function of one member's tensors one of all members'."""
    dim: int = 0
    """Of the batch: one where members come before it."""


class Batch(NamedTuple):
    """What a step is made of."""

    real: Tensor
    """Samples (batch, ...), images in [-1, 1]."""
    labels: Tensor
    """Classes (batch,) of the real samples, and to be of the fake ones."""
    z: Tensor
    """Latents (batch, latent_dim), used in both updates."""
    augmentations: tuple[tuple[Tensor, ...], ...]
    """What is drawn for real samples, for fake ones, and for the generator's update."""
    penalty: tuple[Tensor, ...]
    """What is drawn for the penalty."""
    kept: Tensor
    """How much of the averaged weights stays, a scalar."""


class Played(NamedTuple):
    """What came of a step."""

    statistics: Tensor
    """The values of STATISTICS (6,); the generator's loss is 0 where it had no turn."""
    generator: Sequence[Tensor | None]
    """Gradients; empty where it had no turn."""
    discriminator: Sequence[Tensor | None]


def train_step(game: Game, batch: Batch, *, penalize: bool, update_generator: bool) -> Played:
    """Update the discriminator, then the generator, on one batch.

    Args:
        penalize: add the penalty to the discriminator's loss, times its interval.
        update_generator: whether it has its turn.
    """
    generator, discriminator, dim = game.generator, game.discriminator, game.dim
    labels = batch.labels

    def seen(samples: Tensor, drawn: tuple[Tensor, ...]) -> Tensor:
        if not game.augment and game.pac == 1:
            return samples
        view = partial(_view, names=game.augment, pac=game.pac)
        viewed: Tensor = game.each(view)(samples, *drawn)
        return viewed

    with torch.set_grad_enabled(update_generator):
        fake = generator.forward(batch.z, labels)
    seen_real = seen(batch.real, batch.augmentations[0])
    seen_fake = seen(fake.detach(), batch.augmentations[1])
    if game.joint:
        both = torch.cat([seen_real, seen_fake], dim)
        logits = discriminator.forward(both, torch.cat([labels, labels], dim))
        real_logits, fake_logits = logits.chunk(2, dim)
    else:
        real_logits, fake_logits = (
            discriminator.forward(samples, labels) for samples in (seen_real, seen_fake)
        )
    discriminator_loss = game.loss.discriminator(real_logits, fake_logits)
    objective = discriminator_loss
    if penalize and game.penalty and game.penalty.points:
        penalty = term(
            game.penalty,
            lambda points: discriminator.forward(points, labels),
            seen_real,
            seen_fake,
            batch.penalty,
            dim=dim,
        )
        objective = discriminator_loss + game.penalty_interval * penalty
    discriminator_gradients = _gradients(objective, discriminator)
    discriminator.update(discriminator_gradients)
    if penalize and game.penalty and game.penalty.project:
        with torch.no_grad():
            for weight in discriminator.weights:
                weight.copy_(game.penalty.project(weight))

    generator_loss = torch.zeros_like(discriminator_loss)
    generator_gradients: Sequence[Tensor | None] = ()
    if update_generator:
        beside = real_logits.detach()
        if game.loss.pairs:
            with torch.no_grad():
                beside = discriminator.forward(seen_real, labels)
        judged = discriminator.forward(seen(fake, batch.augmentations[2]), labels)
        generator_loss = game.loss.generator(beside, judged)
        generator_gradients = _gradients(generator_loss, generator)
        generator.update(generator_gradients)
        if game.average:
            game.average(batch.kept)

    logits = torch.stack([real_logits, fake_logits], dim).detach().flatten(dim + 1)
    losses = torch.stack([discriminator_loss.detach(), generator_loss.detach()], dim)
    statistics = torch.cat([losses, logits.sigmoid().mean(-1), logits.mean(-1)], dim)
    return Played(statistics, generator_gradients, discriminator_gradients)


def count(sums: Tensor, healthy: Tensor, statistics: Tensor) -> None:
    """Add statistics (6,) to their sums, and a step to the healthy ones unless one of these is
    not finite, without waiting for the device."""
    sums.add_(statistics)
    healthy.add_(sums.isfinite().all(-1))


def advance(parts: Parts, state: State, batches: Batches) -> None:
    """Train one run on the next batch."""
    batch = next_batch(parts, state, batches)
    turns = due(parts, state.step)
    played = train_step(game(parts), batch, **turns)
    count(state.sums, state.healthy, played.statistics)
    passed(state, **turns)


def due(parts: Parts, step: int) -> dict[str, bool]:
    """What happens in the step after so many."""
    return {
        "penalize": step % parts.penalty_interval == 0,
        "update_generator": (step + 1) % parts.n_critic == 0,
    }


def passed(state: State, *, penalize: bool, update_generator: bool) -> None:
    """Note that one more step was made."""
    state.step += 1
    state.summed += 1
    state.generator_updates += update_generator


def next_batch(parts: Parts, state: State, batches: Batches) -> Batch:
    """The data of the next step, and the run's random numbers for it."""
    real, labels = batches.batch(state.step)
    turns = due(parts, state.step)
    size, noise = len(real), state.noise
    z = torch.randn(size, parts.latent_dim, generator=noise, device=parts.device)
    views = 2 + turns["update_generator"]
    augmentations = tuple(draw(real.shape, parts.augment, noise) for _ in range(views))
    penalty: tuple[Tensor, ...] = ()
    if turns["penalize"] and parts.penalty and parts.penalty.draw:
        penalty = (parts.penalty.draw(pack(real, parts.pac), noise),)
    kept = 1.0
    if parts.average and turns["update_generator"]:
        new, images = parts.n_critic * size, (state.step + 1) * size
        kept = ema.decay(parts.ema_half_life, parts.ema_ramp_up, images, new)
    return Batch(real, labels, z, augmentations, penalty, torch.tensor(kept))


def game(parts: Parts) -> Game:
    """One run's, trained by its own optimizers. Gradients are left with the weights."""

    def player(network: nn.Module, optimizer: torch.optim.Optimizer) -> Player:
        weights = list(network.parameters())
        return Player(partial(forward, network, parts), weights, partial(_update, optimizer))

    def average(kept: Tensor) -> None:
        assert parts.average is not None
        ema.update(parts.average, parts.generator, kept.item())

    return Game(
        player(parts.generator, parts.generator_optimizer),
        player(parts.discriminator, parts.discriminator_optimizer),
        average if parts.average else None,
        **rules(parts),
    )


def rules(parts: Parts) -> dict[str, Any]:
    """The fields of a Game that are no players."""
    return {
        "loss": parts.loss,
        "penalty": parts.penalty,
        "penalty_interval": parts.penalty_interval,
        "joint": parts.joint,
        "augment": parts.augment,
        "pac": parts.pac,
    }


def forward(network: Callable[..., Tensor], parts: Parts, inputs: Tensor, labels: Tensor) -> Tensor:
    """A network's outputs in the precision that the run asks for."""
    # One context for each use: autocast keeps the cast weights until it ends.
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=parts.bf16):
        outputs = network(inputs, labels) if parts.conditional else network(inputs)
    return outputs.float() if parts.bf16 else outputs


def _view(samples: Tensor, *drawn: Tensor, names: tuple[str, ...], pac: int) -> Tensor:
    return pack(augment(samples, names, drawn), pac)


def _gradients(objective: Tensor, player: Player) -> Sequence[Tensor | None]:
    # A member's objective depends on its own weights alone, so the sum has the gradients of all.
    return torch.autograd.grad(objective.sum(), list(player.weights), allow_unused=True)


def _update(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor | None]) -> None:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight, gradient in zip(weights, gradients, strict=True):
        if gradient is not None and gradient.stride() != weight.stride():
            # Fused optimizers go through the memory of both in the same order.
            gradient = torch.empty_like(weight).copy_(gradient)
        weight.grad = gradient
    optimizer.step()
