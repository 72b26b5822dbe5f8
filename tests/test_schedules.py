"""Numbers that change while a run trains: schedules of the learning rates, and curves of others."""

import math
from pathlib import Path

import pytest
import torch
from cohorts import Parent, assert_alike, make_attempt, train_alone, train_cohort
from omegaconf import open_dict
from runs import content, fail_at, short
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from gan import train
from gan.build import build_schedules
from gan.config.compose import compose
from gan.errors import UserError
from gan.functional.compiled import ProgramStep
from gan.functional.step import make_program
from gan.functional.tensors import named_tensors
from gan.run.checkpoint import checkpoint_paths
from gan.run.directory import best_paths
from gan.run.result import read_records
from gan.run.run import Run
from gan.schedules import cosine, curve, linear
from gan.step import Step
from gan.train import run


def test_linear_schedule_stays_and_then_decays() -> None:
    factor = linear(total_steps=10, start=0.5, end=0.0)
    assert [factor(step) for step in (0, 5)] == [1.0, 1.0]
    assert factor(6) == pytest.approx(0.8)
    assert factor(10) == pytest.approx(0.0)


def test_cosine_schedule_rises_and_then_falls_by_half_a_cosine() -> None:
    factor = cosine(total_steps=20, warmup=0.2, end=0.1)
    assert [factor(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factor(4) == 1.0
    assert factor(12) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert factor(20) == pytest.approx(0.1)


def test_learning_rates_of_a_run_follow_its_schedule(tmp_path: Path) -> None:
    small = ["data=digits", "trainer=smoke", "trainer.max_steps=4", "model.hidden_dim=8"]
    small += ["logging.every=1", "metrics=none", "metrics.objective=loss/generator"]
    run(compose(*small, "schedule=linear", "discriminator_optimizer.lr=4e-4"), tmp_path)
    records = read_records(tmp_path)
    assert [r["lr/generator"] for r in records] == pytest.approx([2e-4, 1.5e-4, 1e-4, 0.5e-4])
    assert [r["lr/discriminator"] for r in records] == pytest.approx([4e-4, 3e-4, 2e-4, 1e-4])


AVERAGED = ("trainer.ema_half_life=100", "trainer.ema_ramp_up=null")
CURVES = (
    "+schedule.optimizer.lr={values: [null, 1e-3, 0], at: [0, 0.25, 1]}",
    "+schedule.optimizer.beta2={values: [null, 0.9], shape: cosine}",
    "+schedule.penalty.gamma={values: [null, 1, 30], at: [0, 10, 20], unit: steps, shape: step}",
    "+schedule.loss.label_smoothing={values: [null, 0.2]}",
    "+schedule.trainer.ema_half_life={values: [0, null], at: [0, 320], unit: images}",
    *AVERAGED,
    "penalty.interval=2",
    "logging.every=1",
)


ADA = (
    "trainer.augment=[translation,flip]",
    "trainer.ada_target=0.1",
    "trainer.ada_images=2000",
    "+schedule.trainer.augment_p={values: [0.2, null]}",
)


def test_curve_goes_from_value_to_value() -> None:
    places = (-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    linear_curve = curve((1.0, 3.0, 2.0), (0.0, 2.0, 4.0), "linear")
    assert [linear_curve(place) for place in places] == [1.0, 1.0, 2.0, 3.0, 2.5, 2.0, 2.0]
    steps = curve((1.0, 3.0, 2.0), (0.0, 2.0, 4.0), "step")
    assert [steps(place) for place in places] == [1.0, 1.0, 1.0, 3.0, 3.0, 2.0, 2.0]
    wave = curve((1.0, 3.0), (0.0, 3.0), "cosine")
    assert [wave(place) for place in (0, 1, 2, 3)] == pytest.approx([1.0, 1.5, 2.5, 3.0])
    assert curve((7.0,), (0.0,), "linear")(3) == 7.0


def test_a_run_records_and_uses_the_values_of_its_curves(tmp_path: Path) -> None:
    run(short(*CURVES), tmp_path)
    records = {record["step"]: record for record in read_records(tmp_path)}
    # A record is of the step before it, which are counted from 0.
    rates = [records[step]["lr/discriminator"] for step in (1, 6, 11, 26)]
    assert rates == pytest.approx([2e-4, 6e-4, 1e-3, 0.5e-3])
    gammas = [records[step]["schedule/penalty.gamma"] for step in (1, 10, 11, 20, 21, 40)]
    assert gammas == [3.0, 3.0, 1.0, 1.0, 30.0, 30.0]
    beta2 = records[21]["schedule/generator_optimizer.beta2"]
    assert beta2 == pytest.approx(0.999 + (0.9 - 0.999) / 2)
    assert records[11]["schedule/trainer.ema_half_life"] == pytest.approx(50)
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"]
    assert {"schedule/penalty.gamma", "lr/generator"} <= set(tags)


def test_each_curve_changes_the_training(tmp_path: Path) -> None:
    """Without one of the curves, another generator comes out."""
    base = ("penalty.interval=2", *AVERAGED, "metrics=none", "trainer.max_steps=30")
    results = {}
    for index, own in enumerate([(), *((one,) for one in CURVES if "schedule" in one)]):
        run(short(*base, *own), tmp_path / str(index))
        results[own] = averaged_weights(tmp_path / str(index))
    assert len({weights.numpy().tobytes() for weights in results.values()}) == len(results)


def test_a_curve_that_stays_changes_nothing(tmp_path: Path) -> None:
    base = ("penalty.interval=2", *AVERAGED, "metrics=none")
    stays = [f"+schedule.{name}.values=[null]" for name in ("optimizer.lr", "optimizer.beta2")]
    stays += [
        "+schedule.penalty.gamma.values=[null,3]",
        "+schedule.loss.label_smoothing.values=[0]",
    ]
    stays += ["+schedule.trainer.ema_half_life.values=[null]"]
    run(short(*base), tmp_path / "without")
    run(short(*base, *stays), tmp_path / "with")
    assert content(tmp_path / "with")["checkpoint"] == content(tmp_path / "without")["checkpoint"]


def test_resumed_run_follows_its_curves_to_the_bit(tmp_path: Path) -> None:
    cfg = short(*CURVES, *ADA, "trainer.keep_best=sliced_wasserstein")
    run(cfg, tmp_path / "whole")
    for step in (13, 27):
        fail_at(step, cfg, tmp_path / "resumed")
    run(cfg, tmp_path / "resumed")
    assert content(tmp_path / "resumed") == content(tmp_path / "whole")
    kept, expected = (best_paths(tmp_path / name) for name in ("resumed", "whole"))
    assert [path.name for path in kept] == [path.name for path in expected]
    # The probability of augmentations went up and stayed below its curve.
    probabilities = [record["augment_p"] for record in read_records(tmp_path / "whole")]
    assert 0 < max(probabilities) < 1


def test_functional_step_follows_the_curves(tmp_path: Path) -> None:
    """The step that is compiled, captured and stacked computes the same as the eager one."""
    cfg = short(*CURVES, "trainer.precision=fp32")
    run(cfg, tmp_path / "eager")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_step", functional_steps)
        run(cfg, tmp_path / "functional")
    eager, functional = (averaged_weights(tmp_path / name) for name in ("eager", "functional"))
    torch.testing.assert_close(functional, eager, rtol=1e-3, atol=1e-5)


def test_runs_of_a_cohort_follow_their_own_curves(tmp_path: Path) -> None:
    other = "schedule.penalty.gamma.values=[null,2,10]"
    attempts = [
        make_attempt(tmp_path, "one", *CURVES, *ADA),
        make_attempt(
            *(tmp_path, "other", *CURVES, *ADA, other),
            *("penalty.gamma=2", "trainer.max_steps=30", "trainer.ada_target=-0.1"),
        ),
    ]
    parent = Parent(*attempts)
    train_cohort(parent)
    assert set(parent.statuses.values()) == {"completed"}
    for attempt in attempts:
        assert_alike(train_alone(attempt), attempt.run_dir)


def test_five_schedules_of_r3gan_are_one_option() -> None:
    """Values by the formulas of the authors' code: half a cosine from base to final value."""
    settings = ("optimizer.betas=[0,0.9]", "penalty=r1r2", "penalty.gamma=0.05")
    of_trainer = ("trainer.ema_half_life=5e6", "trainer.augment_p=0.3")
    cfg = compose("schedule=r3gan", *settings, *of_trainer)
    schedules = build_schedules(cfg, total_steps=1000)
    ends = {
        "generator_optimizer/lr": (2e-4, 5e-5),
        "discriminator_optimizer/lr": (2e-4, 5e-5),
        "generator_optimizer/beta2": (0.9, 0.99),
        "discriminator_optimizer/beta2": (0.9, 0.99),
        "penalty/gamma": (0.05, 0.005),
        "trainer/ema_half_life": (0, 5e6),
        "trainer/augment_p": (0, 0.3),
    }
    assert schedules.keys() == ends.keys()
    for name, (base, final) in ends.items():
        for images in (0, 1.28e6, 1.024e7, 2e7, 3e7):
            decay = (1 + math.cos(math.pi * min(images / 2e7, 1))) / 2
            expected = base + (1 - decay) * (final - base)
            assert schedules[name](round(images / 128)) == pytest.approx(
                expected, rel=1e-9, abs=1e-12
            )


def test_linear_decay_to_zero_is_one_curve() -> None:
    """The schedule of SNGAN in the code of mimicry: linear to 0 at the last step."""
    cfg = compose("+schedule.optimizer.lr.values=[null,0]")
    lr = build_schedules(cfg, total_steps=100_000)["generator_optimizer/lr"]
    assert [lr(step) for step in (0, 50_000, 100_000)] == pytest.approx([2e-4, 1e-4, 0])


@pytest.mark.parametrize("own", [1e-4, 2e-4, 4e-4])
def test_curve_of_the_rate_changes_that_of_the_discriminator_in_proportion(own: float) -> None:
    cfg = compose(
        f"discriminator_optimizer.lr={own}", "+schedule.optimizer.lr.values=[null,3e-4,0]"
    )
    found = build_schedules(cfg, 10)
    assert found.keys() == {"generator_optimizer/lr", "discriminator_optimizer/lr"}
    for step in (0, 3, 7, 10):
        generator, discriminator = (schedule(step) for schedule in found.values())
        assert discriminator == pytest.approx(generator * own / 2e-4, rel=1e-12)
        if own == 2e-4:
            assert discriminator == generator


def test_curve_of_the_generators_rate_leaves_a_discriminator_with_its_own() -> None:
    cfg = compose("discriminator_optimizer=rmsprop", "+schedule.optimizer.lr.values=[null,0]")
    assert build_schedules(cfg, 10).keys() == {"generator_optimizer/lr"}
    both = compose(
        "+schedule.optimizer.lr.values=[null,0]",
        "+schedule.discriminator_optimizer.lr.values=[null,1e-5]",
    )
    ends = {name: schedule(10) for name, schedule in build_schedules(both, 10).items()}
    assert ends == {"generator_optimizer/lr": 0.0, "discriminator_optimizer/lr": 1e-5}


BAD = {
    "schedule.penalty.gama={values: [null]}": "schedule.penalty.gama: no number of penalty; did "
    "you mean 'schedule.penalty.gamma'?",
    "schedule.trainer.batch_size={values: [null]}": "schedule.trainer.batch_size: no number of "
    "trainer; trainer has ema_half_life, augment_p",
    "schedule.penalty.gamma=3": "schedule.penalty.gamma=3: must be a curve, such as {values: "
    "[null, 0.1]}, or null",
    "schedule.penalty.gamma={at: [0]}": "schedule.penalty.gamma.values: must be set, as in "
    "schedule.penalty.gamma.values=[null,0.1]",
    "schedule.penalty.gamma={values: [null, x]}": "schedule.penalty.gamma.values=[null,x]: must be "
    "a number",
    "schedule.penalty.gamma={value: [null]}": "schedule.penalty.gamma.value: unknown key; did you "
    "mean 'schedule.penalty.gamma.values'?",
    "schedule.penalty.gamma={values: []}": "schedule.penalty.gamma.values=[]: must hold a value",
    "schedule.penalty.gamma={values: [1, 2]}": "schedule.penalty.gamma.values=[1.0,2.0]: must hold "
    "3.0, which penalty.gamma is, or null in its place",
    "schedule.penalty.gamma={values: [null, -1]}": "schedule.penalty.gamma.values=[null,-1.0]: "
    "must be at least 0, as penalty.gamma",
    "schedule.optimizer.beta2={values: [null, 1]}": "schedule.optimizer.beta2.values=[null,1.0]: "
    "must be below 1, as optimizer.betas",
    "schedule.optimizer.lr={values: [null, 0], at: [0.5, 0.2]}": "schedule.optimizer.lr.at="
    "[0.5,0.2]: each place must be after the one before it",
    "schedule.optimizer.lr={values: [null, 0], at: [0, 2]}": "schedule.optimizer.lr.at=[0.0,2.0]: "
    "must be at most 1",
    "schedule.optimizer.lr={values: [null, 0], at: [1]}": "schedule.optimizer.lr.at=[1.0]: must "
    "hold 2 places, one for each value",
    "schedule.optimizer.lr={values: [null, 0], unit: images}": "schedule.optimizer.lr.unit=images: "
    "needs schedule.optimizer.lr.at, the place of each value",
    "schedule.optimizer.lr={values: [null, 0], shape: cosin}": "schedule.optimizer.lr.shape=cosin: "
    "must be one of linear, cosine, step; did you mean 'cosine'?",
}


@pytest.mark.parametrize("override", BAD)
def test_wrong_curves_are_one_line(override: str) -> None:
    with pytest.raises(UserError) as error:
        compose(f"+{override}")
    assert str(error.value) == BAD[override]


def test_curves_of_numbers_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="penalty has no numbers that can change"):
        compose("penalty=none", "+schedule.penalty.gamma.values=[null]")
    with pytest.raises(UserError, match=r"trainer.ema_half_life=null is no number that can change"):
        compose("trainer.ema_half_life=null", "+schedule.trainer.ema_half_life.values=[null]")
    with pytest.raises(UserError, match="changes the learning rates, too"):
        compose("schedule=linear", "+schedule.optimizer.lr.values=[null,0]")


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_curve_of_a_momentum_of_zero_is_refused(optimizer: str) -> None:
    with pytest.raises(UserError) as error:
        compose(f"optimizer={optimizer}", "+schedule.optimizer.momentum.values=[null,0.9]")
    assert str(error.value) == (
        "schedule.optimizer.momentum.values=[null,0.9]: must be above 0 everywhere; set "
        "optimizer.momentum above 0, too"
    )
    momentum = (f"optimizer={optimizer}", "optimizer.momentum=0.5")
    with pytest.raises(UserError, match=r"values=\[0.0,null\]: must be above 0 everywhere$"):
        compose(*momentum, "+schedule.optimizer.momentum.values=[0,null]")
    compose(*momentum, "+schedule.optimizer.momentum.values=[null,0.9]")


def test_curve_of_a_penalty_that_keeps_a_state_is_refused(tmp_path: Path) -> None:
    cfg = short("+schedule.penalty.weight.values=[null,0.3]", "penalty=wgan_gp")
    settings = {"_target_": "outside.LeCam", "interval": 1, "weight": 0.1, "decay": 0.9}
    with open_dict(cfg):
        cfg.penalty = settings
        cfg.schedule.penalty.weight["values"] = [0.1, 0.3]
    with pytest.raises(UserError, match=r"^schedule\.penalty\.weight: penalty\._target_=outside"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_too_short_for_its_settings_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = "{values: [null, 0], at: [0, 5000], unit: steps}"
    beyond = "schedule.penalty.gamma: goes on until step 5,000, and the run ends at step"
    run(short(f"+schedule.penalty.gamma={places}"), tmp_path / "beyond")
    assert beyond in caplog.text
    caplog.clear()
    places = "{values: [null, 0], at: [0, 1]}"
    run(short(f"+schedule.penalty.gamma={places}"), tmp_path / "within")
    assert "goes on until" not in caplog.text
    run(short("trainer.n_critic=41", "metrics=none"), tmp_path / "short")
    assert "trainer.n_critic=41: the generator is updated for the first time at" in caplog.text


def test_a_longer_run_is_refused_if_its_curve_would_have_been_another(tmp_path: Path) -> None:
    by_share = "+schedule.penalty.gamma.values=[null,0]"
    run(short(by_share), tmp_path / "share")
    with pytest.raises(UserError, match=r"the schedule of penalty\.gamma follows the length"):
        run(short(by_share, "trainer.max_steps=60"), tmp_path / "share", extend=True)
    by_steps = "+schedule.penalty.gamma={values: [null, 0], at: [0, 100], unit: steps}"
    run(short(by_steps, *AVERAGED), tmp_path / "longer")
    longer = short(by_steps, *AVERAGED, "trainer.max_steps=60")
    run(longer, tmp_path / "longer", extend=True)
    run(longer, tmp_path / "whole")
    longer_weights, whole = (averaged_weights(tmp_path / name) for name in ("longer", "whole"))
    assert torch.equal(longer_weights, whole)


def functional_steps(run: Run) -> Step:
    """Return the steps of a run's program, neither compiled nor captured."""
    program_step = ProgramStep(make_program(run.cfg, run.parts))
    tensors = named_tensors(run.parts, run.state)
    return lambda batch, kind: program_step.train(tensors, run.parts, batch, kind)


def averaged_weights(run_dir: Path) -> Tensor:
    saved = torch.load(checkpoint_paths(run_dir)[0], weights_only=True)
    return torch.cat([weight.flatten() for weight in saved["average"].values()])
