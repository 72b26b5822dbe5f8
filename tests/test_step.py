"""One training step: which weights it changes, and that it computes what the papers say."""

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from runs import SHORT, short
from torch import Tensor, nn

from gan import ema
from gan.augment import augment, pack
from gan.build import Parts, build, build_schedules
from gan.config.compose import compose
from gan.metrics.catalogue import STEP_STATISTICS
from gan.run.state import initial_state
from gan.step import (
    Batch,
    StepKind,
    count_step,
    draw_batch,
    eager_step,
    next_step_kind,
    train_step,
    trainable_gan,
)


def step(parts: Parts, *, update_generator: bool = True) -> torch.Tensor:
    """Make a step with a penalty on the first batch of 16 and return its statistics."""
    kind = StepKind(penalize=True, update_generator=update_generator)
    return train_step(trainable_gan(parts), first_batch(parts), kind).statistics


def first_batch(parts: Parts) -> Batch:
    """Return the first batch of 16, in the precision of the weights."""
    batches = parts.data.batches(16, seed=0)
    state = initial_state(parts, seed=0)
    batch = draw_batch(parts._replace(n_critic=1), state, batches)
    dtype = next(parts.generator.parameters()).dtype
    return batch._replace(
        real=batch.real.to(dtype),
        z=batch.z.to(dtype),
        penalty=tuple(part.to(dtype) for part in batch.penalty),
    )


MODELS = {
    "mlp": ("model.hidden_dim=16",),
    "mlp, layer norm": (
        "model.hidden_dim=16",
        "model.generator_norm=layer",
        "model.discriminator_norm=layer",
    ),
    "mlp, batch norm, spectral norm": (
        "model.hidden_dim=16",
        "model.generator_norm=batch",
        "model.generator_spectral_norm=true",
        "model.discriminator_norm=batch",
        "model.discriminator_spectral_norm=true",
    ),
    "mlp, conditional, augmented": (
        "model.hidden_dim=16",
        "model.conditional=true",
        "trainer.augment=[translation,cutout]",
    ),
    "mlp, packed": ("model.hidden_dim=16", "trainer.pac=4"),
    "dcgan": ("model=dcgan", "model.channels=4"),
    "dcgan, conditional": ("model=dcgan", "model.channels=4", "model.conditional=true"),
    "sngan": ("model=sngan", "model.channels=4"),
    "dcgan, attention, conditional batch norm": (
        *("model=dcgan", "model.channels=4", "model.attention=7"),
        *("model.conditional=true", "model.generator_norm=conditional_batch"),
    ),
    "r3gan": ("model=r3gan_small", "model.channels=8", "model.cardinality=4"),
}
ZOO = [
    (model, loss, penalty, optimizer)
    for model in MODELS
    for loss, penalty, optimizer in [
        ("non_saturating", "none", "adam"),
        ("minimax", "r1", "adamw"),
        ("least_squares", "r2", "rmsprop"),
        ("wasserstein", "weight_clip", "sgd"),
        ("hinge", "dragan", "adam"),
        ("relativistic", "r1r2", "adam"),
        ("wasserstein", "wgan_gp", "rmsprop"),
    ]
]


@pytest.mark.parametrize(("model", "loss", "penalty", "optimizer"), ZOO)
def test_each_update_changes_its_own_network_only(
    model: str, loss: str, penalty: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = [f"loss={loss}", f"penalty={penalty}", f"optimizer={optimizer}"]
    parts = build(compose(*SHORT[1:], *choices, *MODELS[model]))
    weights = {
        "generator": list(parts.generator.parameters()),
        "discriminator": list(parts.discriminator.parameters()),
    }
    changes: list[tuple[str, str]] = []
    for role, own_optimizer in (
        ("discriminator", parts.discriminator_optimizer),
        ("generator", parts.generator_optimizer),
    ):

        def watched(role: str = role, step: Callable[[], object] = own_optimizer.step) -> None:
            before = {name: [w.clone() for w in ws] for name, ws in weights.items()}
            step()
            for name, ws in weights.items():
                if any(not torch.equal(a, b) for a, b in zip(before[name], ws, strict=True)):
                    changes.append((role, name))

        monkeypatch.setattr(own_optimizer, "step", watched)
    statistics = step(parts)
    assert changes == [("discriminator", "discriminator"), ("generator", "generator")]
    assert statistics.isfinite().all()
    assert all(weight.requires_grad for weight in weights["discriminator"])


def test_generator_that_is_not_updated_stays_as_it_is() -> None:
    parts = build(short())
    weights = [weight.clone() for weight in parts.generator.parameters()]
    before = [weight.clone() for weight in parts.discriminator.parameters()]
    statistics = step(parts, update_generator=False)
    assert all(map(torch.equal, weights, parts.generator.parameters()))
    assert not any(map(torch.equal, before, parts.discriminator.parameters()))
    assert statistics[STEP_STATISTICS.index("loss/generator")] == 0
    assert statistics[0] > 0


def sgd(network: nn.Module, loss: Tensor) -> None:
    """Update a network by plain gradient descent with a learning rate of 0.1."""
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    with torch.no_grad():
        for weight, gradient in zip(network.parameters(), gradients, strict=True):
            weight.sub_(0.1 * gradient)


def assert_same(ours: Parts, generator: nn.Module, discriminator: nn.Module) -> None:
    for a, b in ((ours.generator, generator), (ours.discriminator, discriminator)):
        for mine, theirs in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def two_in_double_precision(*overrides: str) -> tuple[Parts, Parts]:
    """Return the parts of two equal runs that are updated by plain gradient descent."""
    pair = [build(short("optimizer=sgd", "optimizer.lr=0.1", *overrides)) for _ in range(2)]
    for parts in pair:
        parts.generator.double()
        parts.discriminator.double()
    return pair[0], pair[1]


def test_step_is_what_the_papers_say() -> None:
    """Two plain updates are written out here, with a forward pass for each use of a network."""
    ours, plain = two_in_double_precision("penalty.gamma=1", "penalty.interval=3")
    real, z = first_batch(plain).real, first_batch(plain).z
    ours_statistics = step(ours)

    ones = torch.ones(16, 1).double()
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    generator, discriminator = plain.generator, plain.discriminator
    real_logits, fake_logits = discriminator(real), discriminator(generator(z).detach())
    images = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    loss = bce(real_logits, ones) + bce(fake_logits, 0 * ones)
    sgd(discriminator, loss + 3 * 0.5 * slope.square().sum() / 16)
    generator_loss = bce(discriminator(generator(z)), ones)
    sgd(generator, generator_loss)

    assert_same(ours, generator, discriminator)
    both = (real_logits, fake_logits)
    expected = [loss, generator_loss, *(logits.sigmoid().mean() for logits in both)]
    expected += [logits.mean() for logits in both]
    torch.testing.assert_close(ours_statistics, torch.stack(expected).detach())


def test_relativistic_generator_faces_the_updated_discriminator() -> None:
    ours, plain = two_in_double_precision("loss=relativistic", "penalty=none")
    real, z = first_batch(plain).real, first_batch(plain).z
    step(ours)
    generator, discriminator = plain.generator, plain.discriminator
    softplus = torch.nn.functional.softplus
    sgd(discriminator, softplus(discriminator(generator(z).detach()) - discriminator(real)).mean())
    sgd(generator, softplus(discriminator(real).detach() - discriminator(generator(z))).mean())
    assert_same(ours, generator, discriminator)


def test_discriminator_judges_augmented_packs_and_its_weights_are_clipped() -> None:
    """Real samples, fake ones and those of the generator's update have their own random numbers."""
    overrides = ["loss=wasserstein", "penalty=weight_clip", "trainer.augment=[translation]"]
    ours, plain = two_in_double_precision(*overrides, "trainer.pac=2")
    real, _, z, augmentations, *_ = first_batch(plain)
    step(ours)
    generator, discriminator = plain.generator, plain.discriminator
    assert not torch.equal(augmentations[0][0], augmentations[1][0])

    def judge(samples: Tensor, index: int) -> Tensor:
        shifted = augment(samples, ["translation"], augmentations[index])
        return discriminator(pack(shifted, 2)).mean()  # type: ignore[no-any-return]

    sgd(discriminator, judge(generator(z).detach(), 1) - judge(real, 0))
    with torch.no_grad():
        for weight in discriminator.parameters():
            weight.clamp_(-0.01, 0.01)
    sgd(generator, -judge(generator(z), 2))
    assert_same(ours, generator, discriminator)


def test_both_networks_of_a_conditional_run_get_the_labels() -> None:
    ours, plain = two_in_double_precision(
        "model.conditional=true", "penalty.gamma=1", "penalty.interval=1"
    )
    real, labels, z = first_batch(plain)[:3]
    step(ours)
    generator, discriminator = plain.generator, plain.discriminator
    softplus = torch.nn.functional.softplus
    images = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images, labels).sum(), images, create_graph=True)
    fake = generator(z, labels).detach()
    loss = softplus(-discriminator(real, labels)) + softplus(discriminator(fake, labels))
    sgd(discriminator, loss.mean() + 0.5 * slope.square().sum() / 16)
    sgd(generator, softplus(-discriminator(generator(z, labels), labels)).mean())
    assert_same(ours, generator, discriminator)


def test_generator_is_updated_every_n_critic_steps_and_its_average_follows() -> None:
    overrides = ("trainer.n_critic=3", "trainer.ema_half_life=100", "trainer.ema_ramp_up=null")
    parts = build(short(*overrides))
    state = initial_state(parts, seed=0)
    batches = parts.data.batches(16, 0)
    assert parts.averaged_generator is not None
    averages = [weight.clone() for weight in parts.averaged_generator.parameters()]
    for number in range(1, 8):
        before = [weight.clone() for weight in parts.generator.parameters()]
        kind = next_step_kind(parts, state)
        eager_step(parts, state, draw_batch(parts, state, batches), kind)
        count_step(state, kind)
        changed = not all(map(torch.equal, before, parts.generator.parameters()))
        assert changed == (number in (3, 6))
        if changed:
            decay = ema.decay(100, None, 0, 3 * 16)
            for average, weight in zip(averages, parts.generator.parameters(), strict=True):
                average.lerp_(weight.detach(), 1 - decay)
        for average, weight in zip(averages, parts.averaged_generator.parameters(), strict=True):
            torch.testing.assert_close(average, weight)
    assert (state.summed_steps, state.generator_updates) == (7, 2)


def test_discriminator_with_batch_norm_judges_real_and_fake_samples_apart() -> None:
    """Statistics of a batch would mix both."""
    sizes: list[int] = []
    for norm, expected in (("none", [32, 16]), ("batch", [16, 16, 16])):
        parts = build(short(f"model.discriminator_norm={norm}", "penalty=none"))
        parts.discriminator.register_forward_pre_hook(
            lambda _, inputs: sizes.append(len(inputs[0]))
        )
        step(parts)
        assert sizes == expected
        sizes.clear()


def test_discriminator_of_another_package_judges_real_and_fake_samples_apart() -> None:
    """It may compare the samples of a batch with each other, as minibatch discrimination does."""
    cfg = DictConfig(OmegaConf.to_container(short("penalty=none"), resolve=True))
    cfg.model = dict(cfg.model) | {"_target_": "outside.pair", "layer": "rms"}
    parts = build(cfg)
    sizes: list[int] = []
    parts.discriminator.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    step(parts)
    assert sizes == [16, 16, 16]


def test_bf16_stays_near_fp32() -> None:
    parts, half = build(short()), build(short("trainer.precision=bf16"))
    full, rounded = step(parts), step(half)
    assert not torch.equal(full, rounded)
    torch.testing.assert_close(full, rounded, rtol=0.02, atol=0.02)
    assert all(weight.dtype == torch.float32 for weight in half.generator.parameters())


def test_augmentations_change_some_images_of_each_view() -> None:
    choices = ("trainer.augment=[translation,flip]", "trainer.batch_size=64")
    parts = build(short(*choices, "trainer.augment_p=0.5"))
    batch = draw_batch(parts, initial_state(parts, seed=0), parts.data.batches(64, seed=0))
    assert len(batch.augmentations) == 3
    for numbers in batch.augmentations:
        unchanged = augment(batch.real, parts.augment, numbers) == batch.real
        assert 10 < unchanged.flatten(1).all(1).sum() < 40
    always, never = (build(short(*choices, f"trainer.augment_p={p}")) for p in (1, 0))
    batches = parts.data.batches(64, seed=0)
    batch = draw_batch(always, initial_state(parts, seed=0), batches)
    assert not (augment(batch.real, parts.augment, batch.augmentations[0]) == batch.real).all()
    batch = draw_batch(never, initial_state(parts, seed=0), batches)
    assert torch.equal(augment(batch.real, parts.augment, batch.augmentations[0]), batch.real)


def test_probability_of_augmentations_can_follow_a_curve() -> None:
    curve = "{values: [0, null], at: [0, 8], unit: steps}"
    cfg = short("trainer.augment=[flip]", f"+schedule.trainer.augment_p={curve}")
    parts, schedules = build(cfg), build_schedules(cfg, total_steps=40)
    batches, shares = parts.data.batches(256, seed=0), []
    for number in (0, 4, 8):
        state = initial_state(parts, seed=0)
        state.step = number
        batch = draw_batch(parts, state, batches, schedules=schedules)
        assert batch.settings == {}
        shares.append(torch.cat(batch.augmentations[0]).float().mean().item())
    assert shares == pytest.approx([0, 0.25, 0.5], abs=0.1)
    assert shares[0] == 0


def test_about_half_of_the_real_images_are_mirrored_when_they_are_drawn() -> None:
    parts = build(short("trainer.flip=true", "model.conditional=true"))
    batches, drawn = parts.data.batches(64, seed=0), []
    for step_number in (0, 1):
        state = initial_state(parts, seed=0)
        state.step = step_number
        batch = draw_batch(parts, state, batches)
        images, labels = batches.batch(step_number)
        same = (batch.real == images).flatten(1).all(1)
        mirrored = (batch.real == images.flip(-1)).flatten(1).all(1)
        assert (same | mirrored).all()
        assert 16 < mirrored.sum() < 48
        assert torch.equal(batch.labels, labels)
        again = initial_state(parts, seed=0)
        again.step = step_number
        assert torch.equal(draw_batch(parts, again, batches).real, batch.real)
        drawn.append(mirrored)
    other = draw_batch(parts, initial_state(parts, seed=1), batches).real
    assert not torch.equal(other, draw_batch(parts, initial_state(parts, seed=0), batches).real)


def test_adaptive_probability_hears_how_often_real_logits_are_positive() -> None:
    choices = ("trainer.augment=[translation]", "trainer.ada_target=0.6", "trainer.pac=2")
    parts = build(short(*choices))
    state, batches = initial_state(parts, seed=0), parts.data.batches(16, seed=0)
    assert state.adaptive
    expected = 0.0
    for _ in range(3):
        kind, batch = next_step_kind(parts, state), draw_batch(parts, state, batches)
        with torch.no_grad():
            seen = pack(augment(batch.real, parts.augment, batch.augmentations[0]), 2)
            expected += parts.discriminator(seen).sign().mean().item()
        eager_step(parts, state, batch, kind)
        count_step(state, kind)
    assert state.adaptive.signs.item() == pytest.approx(expected)
    assert state.adaptive.steps == 3


@pytest.mark.parametrize(
    ("norm", "weights"), [("none", (7, 3)), ("none", (7, 0)), ("batch", (0, 3))]
)
def test_consistency_is_a_term_of_the_papers_beside_r1(norm: str, weights: tuple[int, int]) -> None:
    ours, plain = two_in_double_precision(
        *("penalty=r1", "penalty.gamma=1", "penalty.interval=1", "trainer.augment=[cutout]"),
        *("trainer.consistency=[flip,translation]", f"model.discriminator_norm={norm}"),
        *(f"trainer.consistency_real={weights[0]}", f"trainer.consistency_fake={weights[1]}"),
    )
    batch = first_batch(plain)
    statistics = step(ours)
    generator, discriminator = plain.generator, plain.discriminator
    softplus = torch.nn.functional.softplus
    views, terms = [], []
    for index, samples in enumerate((batch.real, generator(batch.z).detach())):
        view = augment(samples, ["cutout"], batch.augmentations[index])
        changed = augment(view, ["flip", "translation"], batch.consistency[index])
        assert not torch.equal(changed, view)
        views.append(view)
        terms.append((discriminator(changed) - discriminator(view)).square().mean())
    loss = softplus(-discriminator(views[0])).mean() + softplus(discriminator(views[1])).mean()
    images = views[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    penalties = 0.5 * slope.square().sum() / 16
    sgd(discriminator, loss + penalties + weights[0] * terms[0] + weights[1] * terms[1])
    shown = augment(generator(batch.z), ["cutout"], batch.augmentations[2])
    sgd(generator, softplus(-discriminator(shown)).mean())
    assert_same(ours, generator, discriminator)
    torch.testing.assert_close(statistics[0], loss.detach())
