"""Steps of many runs in one program: each run is trained as it would be alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest
import torch
from omegaconf import DictConfig
from runs import SHORT
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gan.build import Parts, build
from gan.config.compose import compose
from gan.data import Batches
from gan.functional.compiled import ProgramStep
from gan.functional.step import make_program
from gan.functional.tensors import Tensors, as_tensors, differing, hyperparameters, named_tensors
from gan.run.state import State, initial_state
from gan.step import (
    Batch,
    add_statistics,
    count_step,
    draw_batch,
    next_step_kind,
    train_step,
    trainable_gan,
)
from gan.vectorized.stack import stack


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Training(NamedTuple):
    """A run without a directory."""

    cfg: DictConfig
    parts: Parts
    state: State
    batches: Batches

    def draw_batch(self) -> Batch:
        """Return the next batch in the precision of the run."""
        batch = draw_batch(self.parts, self.state, self.batches)
        dtype = self.state.sums.dtype
        return batch._replace(
            real=batch.real.to(dtype),
            z=batch.z.to(dtype),
            penalty=tuple(part.to(dtype) for part in batch.penalty),
        )


def make_training(overrides: Sequence[str], *, double: bool) -> Training:
    """Return a run before its first step, in double or in single precision."""
    cfg = compose(*SHORT[1:], *overrides)
    parts, dtype = build(cfg), torch.float64 if double else torch.float32
    for network in (parts.generator, parts.discriminator, parts.averaged_generator):
        if network is not None:
            network.to(dtype)
    state = initial_state(parts, cfg.seed)
    state.sums = state.sums.to(dtype)
    return Training(cfg, parts, state, parts.data.batches(cfg.trainer.batch_size, cfg.seed))


def stack_batches(batches: Sequence[Batch]) -> Batch:
    first, *others = batches
    stacked: Batch = pytree.tree_map(lambda *tensors: torch.stack(tensors), first, *others)
    return stacked


def train_alone(runs: Sequence[Training], steps: int) -> None:
    """Train runs one after the other by their own optimizers."""
    for run in runs:
        for _ in range(steps):
            kind = next_step_kind(run.parts, run.state)
            result = train_step(trainable_gan(run.parts), run.draw_batch(), kind)
            add_statistics(run.state.sums, run.state.finite_steps, result.statistics)
            if run.state.adaptive:
                assert result.real_sign is not None
                run.state.adaptive.signs.add_(result.real_sign)
            count_step(run.state, kind)


def train_stacked(runs: Sequence[Training], steps: int) -> Tensors:
    """Train runs in one program, and return the tensors that hold all of them."""
    own = [named_tensors(run.parts, run.state) for run in runs]
    numbers = [hyperparameters(run.cfg) for run in runs]
    varied = differing(numbers)
    widest = max(range(len(runs)), key=lambda i: sum(t.numel() for t in own[i].values()))
    settings = as_tensors(numbers, varied, torch.device("cpu"))
    stacked = stack(own) | {f"settings/{name}": value for name, value in settings.items()}
    prototype = runs[widest]
    program = make_program(prototype.cfg, prototype.parts, varied=varied, stacked=True)
    program_step = ProgramStep(program)
    for _ in range(steps):
        batch = stack_batches([run.draw_batch() for run in runs])
        kind = next_step_kind(prototype.parts, prototype.state)
        program_step(stacked, batch, kind)
        for run in runs:
            count_step(run.state, kind)
    return stacked


def weights(network: nn.Module) -> Tensor:
    """Return all weights but the last bias, in one vector.

    In the difference of two logits the last bias makes no difference. Adam and RMSprop blow up the
    rounding errors of its gradient to steps of full size.
    """
    *others, _ = network.parameters()
    return torch.cat([weight.detach().double().flatten() for weight in others])


def assert_trained_as_alone(
    runs: Sequence[Sequence[str]], *, double: bool, bound: float = 1e-10
) -> None:
    """Compare runs, given by their overrides, after 20 steps alone and stacked.

    Args:
        bound: the largest difference of a network's weights, relative to their norm.
    """
    alone = [make_training(overrides, double=double) for overrides in runs]
    stacked = [make_training(overrides, double=double) for overrides in runs]
    train_alone(alone, 20)
    train_stacked(stacked, 20)
    for one, other in zip(alone, stacked, strict=True):
        for role in ("generator", "discriminator", "averaged_generator"):
            if getattr(one.parts, role) is not None:
                a, b = (weights(getattr(run.parts, role)) for run in (one, other))
                assert (a - b).norm() <= bound * a.norm(), role
        assert other.state.finite_steps == one.state.finite_steps == 20
        if one.state.adaptive and other.state.adaptive:
            assert vars(one.state.adaptive) == vars(other.state.adaptive)
            assert one.state.adaptive.p > 0
        torch.testing.assert_close(
            one.state.sums, other.state.sums, rtol=100 * bound, atol=100 * bound
        )


MODELS = {
    "mlp": (),
    "mlp, average": ("trainer.ema_half_life=100", "trainer.n_critic=2"),
    "mlp, layer norm, packed": ("model.generator_norm=layer", "trainer.pac=4"),
    "mlp, spectral norm": (
        "model.discriminator_spectral_norm=true",
        "model.generator_spectral_norm=true",
    ),
    "mlp, conditional, augmented": (
        "model.conditional=true",
        "trainer.augment=[translation,cutout,colour,flip]",
        "trainer.augment_p=0.7",
    ),
    "mlp, consistent": (
        "trainer.augment=[translation]",
        "trainer.consistency=[flip,colour]",
        "trainer.consistency_fake=3",
        "trainer.pac=2",
    ),
    "mlp, adapted": (
        "trainer.augment=[translation,colour]",
        "trainer.ada_target=0.3",
        "trainer.ada_images=400",
    ),
    "dcgan": ("model=dcgan", "model.channels=4"),
    "dcgan, conditional": ("model=dcgan", "model.channels=4", "model.conditional=true"),
    "sngan": ("model=sngan", "model.channels=4", "model.generator_norm=none"),
    "dcgan, attention, conditional batch norm": (
        *("model=dcgan", "model.channels=4", "model.attention=7"),
        *("model.conditional=true", "model.generator_norm=conditional_batch"),
    ),
    "r3gan, conditional, average": (
        *("model=r3gan_small", "model.channels=8", "model.cardinality=4"),
        *("model.conditional=true", "trainer.ema_half_life=100"),
    ),
}
OBJECTIVES = [
    ("non_saturating", "none", "adam", ()),
    ("minimax", "r1", "adamw", ("penalty.gamma=2", "loss.label_smoothing=0.1")),
    ("least_squares", "r2", "rmsprop", ("penalty.gamma=2", "loss.label_smoothing=0.1")),
    ("wasserstein", "weight_clip", "sgd", ("penalty.limit=0.02",)),
    ("hinge", "dragan", "adam", ("penalty.weight=3",)),
    ("relativistic", "r1r2", "adam", ("penalty.gamma=2",)),
    ("wasserstein", "wgan_gp", "rmsprop", ("penalty.weight=3",)),
]
# The first model has every objective, and each other model has a few of them.
ZOO = [
    (model, *objective)
    for i, model in enumerate(MODELS)
    for j, objective in enumerate(OBJECTIVES)
    if i == 0 or i % len(OBJECTIVES) == j
]


def two_runs(
    model: str, loss: str, penalty: str, optimizer: str, varied: tuple[str, ...]
) -> list[list[str]]:
    """Return the overrides of two runs that differ in seed, learning rate, decay and `varied`."""
    size = [] if "channels" in " ".join(MODELS[model]) else ["model.hidden_dim=16"]
    base = [f"loss={loss}", f"penalty={penalty}", f"optimizer={optimizer}", *size, *MODELS[model]]
    # At SGD's own rate, clipped weights with a spectral norm become NaN on some processors.
    base += ["optimizer.lr=1e-3"] if optimizer == "sgd" else []
    return [base, [*base, *varied, "seed=5", "optimizer.lr=3e-4", "optimizer.weight_decay=0.001"]]


@pytest.mark.parametrize(("model", "loss", "penalty", "optimizer", "varied"), ZOO)
def test_stacked_run_has_the_same_weights_as_alone(
    model: str, loss: str, penalty: str, optimizer: str, varied: tuple[str, ...]
) -> None:
    assert_trained_as_alone(two_runs(model, loss, penalty, optimizer, varied), double=True)


def test_frozen_weights_stay_and_the_others_are_trained_alone_and_stacked() -> None:
    cfg = compose(*SHORT[1:])
    others = [
        f"~model.{name}"
        for name in cfg.model
        if name not in ("_target_", "latent_dim", "conditional")
    ]
    base = ["model._target_=outside.frozen_pair", *others, "penalty=r1"]
    runs = [base, [*base, "seed=5", "optimizer.lr=3e-4"]]
    assert_trained_as_alone(runs, double=True)
    (one,) = trained = [make_training(base, double=True)]
    before = {name: weight.clone() for name, weight in one.parts.discriminator.named_parameters()}
    train_alone(trained, 3)
    for name, weight in one.parts.discriminator.named_parameters():
        assert torch.equal(weight, before[name]) == ("directions" in name), name


def test_penalty_that_takes_a_key_of_the_program_is_made_alike_alone_and_stacked() -> None:
    base = ["penalty._target_=outside.lazy_r1", "penalty.interval=2"]
    assert_trained_as_alone([base, [*base, "penalty.gamma=1"]], double=True)


@pytest.mark.parametrize(("loss", "penalty", "optimizer", "varied"), OBJECTIVES)
def test_stacked_run_in_single_precision_differs_by_rounding_only(
    loss: str, penalty: str, optimizer: str, varied: tuple[str, ...]
) -> None:
    runs = two_runs("mlp", loss, penalty, optimizer, varied)
    # Gradients that consist of rounding errors lead to steps of full size: see `weights`.
    bound = 1e-4 if "gp" in penalty or loss == "relativistic" else 1e-5
    assert_trained_as_alone(runs, double=False, bound=bound)


@pytest.mark.parametrize(
    "overrides",
    [
        ("penalty=r1", "optimizer=adamw", "model.hidden_dim=@"),
        ("penalty=wgan_gp", "loss=wasserstein", "optimizer=rmsprop", "model.hidden_dim=@"),
        ("penalty=r1r2", "model.generator_norm=batch", "model.hidden_dim=@", "optimizer=sgd"),
        ("penalty=none", "model.conditional=true", "model.hidden_dim=@"),
        (
            "penalty=weight_clip",
            "model.discriminator_spectral_norm=true",
            "model.generator_spectral_norm=true",
            "model.hidden_dim=@",
        ),
        ("penalty=r1", "model=dcgan", "model.channels=@"),
        ("penalty=r1", "model=sngan", "model.channels=@", "model.generator_norm=none"),
        (
            *("penalty=r1", "model=dcgan", "model.channels=@", "model.attention=7"),
            *("model.conditional=true", "model.generator_norm=conditional_batch"),
        ),
    ],
)
def test_narrow_networks_are_trained_as_alone_and_their_padding_stays_zero(
    overrides: Sequence[str],
) -> None:
    wide, narrow = (
        [text.replace("@", str(width)) for text in overrides] + [f"seed={width}"]
        for width in (8, 4)
    )
    assert_trained_as_alone([narrow, wide], double=True)
    runs = [make_training(narrow, double=False), make_training(wide, double=False)]
    stacked = train_stacked(runs, 20)
    padded = 0
    for name, tensor in named_tensors(runs[0].parts, runs[0].state).items():
        padding = stacked[name][0].clone()
        padding[tuple(map(slice, tensor.shape))] = 0
        padded += padding.numel() - tensor.numel()
        assert not padding.any(), name
    assert padded > 100
