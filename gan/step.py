"""One training step: an update of the discriminator, then one of the generator."""

from functools import partial

import torch
from torch import Tensor, nn

from gan import ema
from gan.augment import augment
from gan.build import Parts
from gan.config import TRAINING_VALUES
from gan.data import Batches
from gan.packing import pack
from gan.state import State

STATISTICS = TRAINING_VALUES[:6]


def train_step(
    parts: Parts,
    real: Tensor,
    labels: Tensor,
    z: Tensor,
    noise: torch.Generator,
    *,
    penalize: bool,
    update_generator: bool,
) -> Tensor:
    """Update the discriminator, then the generator, on one batch.

    Args:
        real: samples (batch, ...), images in [-1, 1].
        labels: classes (batch,) of the real samples, and to be of the fake ones, where the
            networks are conditional.
        z: latents (batch, latent_dim), used in both updates.
        noise: draws what the penalty and the augmentation need.
        penalize: add the penalty to the discriminator's loss, times its interval.
        update_generator: whether it has its turn; its loss is 0 where not.

    Returns:
        The values of STATISTICS (6,), detached. Each network's gradients are left in place.
    """
    generator, discriminator = parts.generator, parts.discriminator

    def forward(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        # One context for each use: autocast keeps the cast weights until it ends.
        with torch.autocast(real.device.type, torch.bfloat16, enabled=parts.bf16):
            outputs: Tensor = network(inputs, labels) if parts.conditional else network(inputs)
        return outputs.float() if parts.bf16 else outputs

    def seen(samples: Tensor) -> Tensor:
        return pack(augment(samples, parts.augment, noise), parts.pac)

    with torch.set_grad_enabled(update_generator):
        fake = forward(generator, z, labels)
    seen_real, seen_fake = seen(real), seen(fake.detach())
    if parts.joint:
        both = torch.cat([seen_real, seen_fake])
        real_logits, fake_logits = forward(discriminator, both, labels.repeat(2)).chunk(2)
    else:
        real_logits, fake_logits = (
            forward(discriminator, samples, labels) for samples in (seen_real, seen_fake)
        )
    discriminator_loss = parts.loss.discriminator(real_logits, fake_logits)
    objective = discriminator_loss
    if penalize and parts.penalty and parts.penalty.loss:
        judge = partial(discriminator, labels=labels) if parts.conditional else discriminator
        penalty = parts.penalty.loss(judge, seen_real, seen_fake, noise)
        objective = discriminator_loss + parts.penalty_interval * penalty
    parts.discriminator_optimizer.zero_grad()
    objective.backward()
    parts.discriminator_optimizer.step()
    if penalize and parts.penalty and parts.penalty.project:
        parts.penalty.project(discriminator)

    generator_loss = torch.zeros_like(discriminator_loss)
    if update_generator:
        discriminator.requires_grad_(False)
        beside = real_logits.detach()
        if parts.loss.pairs:
            with torch.no_grad():
                beside = forward(discriminator, seen_real, labels)
        generator_loss = parts.loss.generator(beside, forward(discriminator, seen(fake), labels))
        parts.generator_optimizer.zero_grad()
        generator_loss.backward()
        parts.generator_optimizer.step()
        discriminator.requires_grad_(True)

    logits = torch.cat([real_logits, fake_logits]).detach().view(2, -1)
    losses = torch.stack([discriminator_loss.detach(), generator_loss.detach()])
    return torch.cat([losses, logits.sigmoid().mean(1), logits.mean(1)])


def advance(parts: Parts, state: State, batches: Batches) -> None:
    """Train on the next batch and add its statistics to the state, without waiting for the
    device."""
    real, labels = batches.batch(state.step)
    z = torch.randn(len(real), parts.latent_dim, generator=state.noise, device=parts.device)
    update_generator = (state.step + 1) % parts.n_critic == 0
    state.sums += train_step(
        parts,
        real,
        labels,
        z,
        state.noise,
        penalize=state.step % parts.penalty_interval == 0,
        update_generator=update_generator,
    )
    if update_generator and parts.average:
        new = parts.n_critic * len(real)
        seen = (state.step + 1) * len(real)
        kept = ema.decay(parts.ema_half_life, parts.ema_ramp_up, seen, new)
        ema.update(parts.average, parts.generator, kept)
    state.healthy += state.sums.isfinite().all()
    state.step += 1
    state.summed += 1
    state.generator_updates += update_generator
