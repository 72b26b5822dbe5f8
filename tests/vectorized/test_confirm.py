"""Steps in a stack are compared with steps alone, and parts say what may be done with them."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from cohorts import FAST, Parent, assert_alike, make_attempt, train_alone, train_cohort
from runs import SHORT
from torch import Tensor, nn

from gan.config.compose import compose
from gan.errors import NotSupported
from gan.functional import step as functional
from gan.run.attempt import Attempt
from gan.run.run import Run
from gan.run.state import to_checkpoint
from gan.vectorized.stacked import StackedRuns

MODEL = {"_target_": "outside.pair", "latent_dim": 8, "conditional": False}


def with_parts(attempt: Attempt, **groups: dict[str, Any] | None) -> Attempt:
    """Give an attempt other keys in some groups of its configuration."""
    for name, settings in groups.items():
        if settings and name == "model":
            attempt.config[name] = MODEL | settings
        elif settings:
            attempt.config[name] = settings
    return attempt


def train_all(attempts: Sequence[Attempt]) -> list[str]:
    """Train attempts in a cohort, compare them with runs alone, and return notes on strategies."""
    parent = Parent(*attempts)
    train_cohort(parent)
    # Runs that would only wait are given back.
    later = [attempt for attempt in attempts if attempt.name in parent.returns]
    if later:
        train_cohort(Parent(*later))
    for attempt in attempts:
        assert_alike(train_alone(attempt), attempt.run_dir)
    return [note for note in parent.notes if "not these runs" in note]


def two_widths(folder: Path, model: dict[str, Any], **groups: dict[str, Any]) -> list[Attempt]:
    """Return attempts at two runs, with 8 and 64 hidden features."""
    # Adam blows up the rounding errors of gradients that should be zero.
    smooth = ("optimizer=sgd", "optimizer.lr=0.01")
    return [
        with_parts(
            make_attempt(folder, f"h{width}", f"seed={width}", *smooth),
            model=model | {"hidden_dim": width},
            **groups,
        )
        for width in (8, 64)
    ]


@pytest.mark.parametrize(
    ("layer", "declared", "notes"),
    [
        ("rms", {}, ["the generator does not say that it can be stacked"] * 2),
        ("rms", {"stackable": True}, ["the generator does not say that it can be padded"]),
        ("rms", {"stackable": True, "paddable": True}, ["would be trained to other values"]),
        ("scaled", {"stackable": True, "paddable": True}, ["would be trained to other values"]),
        ("sigmoid", {"stackable": True, "paddable": True}, ["would not stay zero"]),
        ("dropout", {"stackable": True, "paddable": True}, ["randomness"] * 2),
        ("attention", {"stackable": True}, ["the generator does not say that it can be padded"]),
        ("batch", {"stackable": True, "paddable": True}, []),
    ],
)
def test_outside_networks_of_two_widths_are_trained_as_alone_and_a_note_says_how(
    tmp_path: Path, layer: str, declared: dict[str, bool], notes: list[str]
) -> None:
    attempts = two_widths(tmp_path, {"layer": layer} | declared)
    found = train_all(attempts)
    assert len(found) == len(notes)
    for note, expected in zip(found, notes, strict=True):
        assert expected in note


@pytest.mark.parametrize(
    ("groups", "note"),
    [
        ({"loss": {"_target_": "outside.spread_loss", "weight": 0.5}}, None),
        ({"loss": {"_target_": "outside.spread_loss", "weight": 0.5, "stackable": False}}, "loss"),
        ({"loss": {"_target_": "outside.peeking_loss"}}, "vmap"),
        ({"loss": {"_target_": "outside.SavedAverage"}}, "the loss does not say"),
        (
            {"penalty": {"_target_": "outside.consistency", "interval": 2, "weight": 3.0}},
            None,
        ),
        (
            {"penalty": {"_target_": "outside.feature_consistency", "interval": 1, "weight": 3.0}},
            None,
        ),
        (
            {
                "penalty": {
                    "_target_": "outside.LeCam",
                    "interval": 1,
                    "weight": 0.3,
                    "decay": 0.9,
                }
            },
            "the penalty does not say",
        ),
    ],
)
def test_outside_losses_and_penalties_train_runs_as_alone(
    tmp_path: Path, groups: dict[str, Any], note: str | None
) -> None:
    attempts = []
    for seed in range(2):
        attempt = with_parts(make_attempt(tmp_path, f"r{seed}", f"seed={seed}"), **groups)
        (group,) = groups
        # Their own settings may differ, too.
        attempt.config[group] = {
            key: value * (1 + seed) if key == "weight" else value
            for key, value in attempt.config[group].items()
        }
        attempts.append(attempt)
    notes = train_all(attempts)
    assert bool(notes) == bool(note), notes
    assert not note or note in notes[0]


def open_runs(folder: Path, *overrides: Sequence[str]) -> list[Run]:
    """Return runs before their first step, given by their overrides."""
    runs = []
    for index, given in enumerate(overrides):
        size = [] if "channels" in " ".join(given) else SHORT[:1]
        runs.append(Run.open(compose(*size, *SHORT[1:], *FAST, *given), folder / f"r{index}"))
    return runs


BASES = {
    "mlp": ("penalty=r1", "model.hidden_dim=@"),
    "every kind of step": (
        "penalty=r1",
        "penalty.interval=2",
        "trainer.n_critic=3",
        "trainer.ema_half_life=100",
        "model.hidden_dim=@",
    ),
    "wgan-gp, batch norm": (
        "loss=wasserstein",
        "penalty=wgan_gp",
        "model.generator_norm=batch",
        "model.hidden_dim=@",
    ),
    "batch norm in both, bf16": (
        "loss=relativistic",
        "penalty=r1r2",
        "model.generator_norm=batch",
        "model.discriminator_norm=batch",
        "trainer.precision=bf16",
        "model.hidden_dim=@",
    ),
    "batch norm in both, averaged": (
        "recipe=hinge_sn",
        "model.generator_norm=batch",
        "trainer.ema_half_life=20000",
        "model.hidden_dim=@",
    ),
    "sngan, averaged": (
        "model=sngan",
        "model.channels=@",
        "recipe=hinge_sn",
        "trainer.ema_half_life=20000",
    ),
    "spectral norm, clipped": (
        "penalty=weight_clip",
        "optimizer=rmsprop",
        "model.generator_spectral_norm=true",
        "model.discriminator_spectral_norm=true",
        "model.hidden_dim=@",
    ),
    "conditional, augmented": (
        "model.conditional=true",
        "trainer.augment=[translation,cutout,colour,flip]",
        "trainer.augment_p=0.7",
        "model.hidden_dim=@",
    ),
    "consistent": (
        "trainer.consistency=[flip,translation]",
        "trainer.consistency_fake=0",
        "model.discriminator_norm=batch",
        "model.hidden_dim=@",
    ),
    "adapted": (
        "trainer.augment=[translation]",
        "trainer.ada_target=0.5",
        "trainer.pac=2",
        "model.hidden_dim=@",
    ),
    "dcgan": ("model=dcgan", "model.channels=@", "penalty=dragan", "loss=hinge"),
    "sngan": ("model=sngan", "model.channels=@", "penalty=wgan_gp", "loss=wasserstein"),
    "pyramid, attention, conditional batch norm": (
        *("model=sngan_pyramid", "model.channels=@", "model.attention=14", "penalty=r1"),
        *("model.conditional=true", "model.generator_norm=conditional_batch"),
    ),
    "r3gan": (
        "model=r3gan_small",
        "model.channels=8",
        "model.cardinality=4",
        "penalty=r1r2",
        "loss=relativistic",
    ),
}


@pytest.mark.parametrize("base", BASES)
def test_rounding_does_not_keep_runs_from_being_stacked(tmp_path: Path, base: str) -> None:
    widths = [
        [text.replace("@", str(width)) for text in ("data=digits", *BASES[base])] + [f"seed={seed}"]
        for seed, width in enumerate((4, 8, 8))
    ]
    runs = open_runs(tmp_path, *widths)
    before = [copy.deepcopy(to_checkpoint(run.parts, run.state)) for run in runs]
    state = torch.get_rng_state()
    StackedRuns(runs)
    assert torch.equal(torch.get_rng_state(), state)
    for run, earlier in zip(runs, before, strict=True):
        now = to_checkpoint(run.parts, run.state)
        for name in ("noise", "generator", "discriminator", "average"):
            torch.testing.assert_close(now[name], earlier[name], rtol=0, atol=0)
        for name in ("generator_optimizer", "discriminator_optimizer"):
            # They have got the state that they would make at their first step.
            for state in now[name]["state"].values():
                assert not any(value.any() for value in state.values() if isinstance(value, Tensor))
        run.close()


def too_large(loss: Tensor, share: float) -> Tensor:
    """Return the same loss, with gradients that are too large by a share."""
    return loss + share * (loss - loss.detach())


class WrongPassBack(nn.Module):
    """A layer whose gradients are wrong by a share where many runs are trained at once."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        stacked = torch._C._functorch.is_batchedtensor(x)
        return too_large(x, 1e-3) if stacked else x


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_fault_of_a_thousandth_in_the_stack_is_found(tmp_path: Path, role: str) -> None:
    runs = open_runs(tmp_path, ("seed=1",), ("seed=2",))
    for run in runs:
        getattr(run.parts, role).layers.insert(1, WrongPassBack())
    with pytest.raises(NotSupported, match=rf"{role}/layers.*weight differs by \d.\de-0[34]"):
        StackedRuns(runs)


def test_weights_that_are_updated_otherwise_in_the_stack_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = functional._update_ema

    def forgets(tensors: dict[str, Tensor], averaged: nn.Module, decay: Tensor) -> None:
        original(tensors, averaged, 1 - (1 - decay) * 1.001)

    runs = open_runs(tmp_path, *[("trainer.ema_half_life=100", f"seed={seed}") for seed in (1, 2)])
    monkeypatch.setattr(functional, "_update_ema", forgets)
    with pytest.raises(NotSupported, match=r"averaged_generator/.* differs by \d.\de-0[34]"):
        StackedRuns(runs)
    # The learning rate of the optimizer is no longer the configured one.
    monkeypatch.undo()
    runs[0].parts.generator_optimizer.param_groups[0]["lr"] *= 1.001
    with pytest.raises(NotSupported, match=r"generator/.* differs by \d.\de-0[34]"):
        StackedRuns(runs)


def test_run_whose_networks_have_other_settings_in_the_same_sizes_is_found(tmp_path: Path) -> None:
    """The stack computes with the modules of one run, which hold such settings."""
    runs = open_runs(tmp_path, ("seed=1",), ("seed=2",), ("seed=3",))
    runs[1].cfg.model.negative_slope = 0.3
    for layer in runs[1].parts.discriminator.modules():
        if isinstance(layer, nn.LeakyReLU):
            layer.negative_slope = 0.3
    with pytest.raises(NotSupported, match="would be trained to other values"):
        StackedRuns(runs)


def test_equal_steps_are_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gan.vectorized import stacked

    calls = []
    monkeypatch.setattr(stacked, "compare_steps", lambda *given: calls.append(given))
    runs = open_runs(tmp_path, ("seed=1",), ("seed=2",), ("seed=3", "model.hidden_dim=8"))
    confirmed: set[object] = set()
    for _ in range(2):
        together = StackedRuns(runs[:2], confirmed=confirmed)
        together.leave(runs[0])
        # A narrower run was not compared yet.
        assert not together.join(runs[2])
        assert together.join(runs[0])
        for run in runs[:2]:
            together.leave(run)
    assert len(calls) == 1
    StackedRuns(runs, confirmed=confirmed)
    assert [len(given[1]) for given in calls] == [2, 2]
