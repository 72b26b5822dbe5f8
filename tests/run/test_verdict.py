"""Verdicts: what the rules say of runs that collapse, of runs that do not, and where it is told.

The tables are records of real runs on mnist5k: hidden_dim 64, batches of 32, samples looked at
every 250 steps. Whether a run went well was judged by its pictures.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import fail_at, short
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gan import losses
from gan.config.checks import flatten
from gan.config.compose import compose
from gan.config.schema import CONF_DIR
from gan.run import verdict
from gan.run.result import read_records, read_result
from gan.run.verdict import LOSS_OF_GUESSING, Rule, Watch, _certain, verdict_of
from gan.train import run

COLUMNS = ["loss/discriminator", "prob/real", "prob/fake", "logit/real", "logit/fake"]
COLUMNS += ["samples/diversity"]

FAILED = {
    "penalty=none optimizer.betas=[0.9,0.999]": (
        ("mode collapse", 250, "penalty=r1"),
        """
        0.3363 0.968 0.256 3.81 -1.11 0.142
        0.2528 0.964 0.191 3.72 -1.49 0.156
        0.1392 0.969 0.099 4.13 -2.33 0.140
        0.1397 0.955 0.083 4.05 -2.56 0.158
        0.3692 0.877 0.157 3.18 -2.01 0.139
        0.2636 0.901 0.118 3.32 -2.31 0.124
        0.7635 0.760 0.269 1.95 -1.18 0.114
        0.6371 0.804 0.237 2.68 -1.39 0.106
        0.6787 0.775 0.256 2.03 -1.19 0.102
        """,
    ),
    "penalty=none optimizer.lr=1e-2": (
        ("mode collapse", 1000, "optimizer.lr=0.0002"),
        """
        1.408 0.534 0.499 0.162 0.00707 0.184
        1.434 0.500 0.499 0.00354 -0.0025 0.228
        2.191 0.557 0.469 0.613 0.0833 0.444
        0.002656 0.998 0.001 8.99 -7.35 0.000
        0.2107 0.975 0.023 6.43 -11.3 0.000
        0.0004653 1.000 0.000 10.5 -9.14 0.000
        0.0007312 1.000 0.000 11 -8.52 0.000
        0.0003226 1.000 0.000 50.5 -8.48 0.000
        """,
    ),
    "loss=minimax penalty=none optimizer.lr=1e-5 discriminator_optimizer.lr=1e-3": (
        ("discriminator too strong", 250, "discriminator_optimizer.lr=1e-05"),
        """
        0.0003238 1.000 0.000 11.3 -8.37 0.125
        7.007e-05 1.000 0.000 12.9 -10 0.125
        3.049e-05 1.000 0.000 13.7 -10.9 0.125
        1.694e-05 1.000 0.000 14.3 -11.5 0.125
        9.841e-06 1.000 0.000 14.9 -12.1 0.125
        """,
    ),
    "penalty.gamma=1000 penalty.interval=1": (
        ("discriminator too weak", 500, "penalty.gamma=100"),
        """
        1.307 0.555 0.512 0.219 0.0482 0.223
        1.371 0.506 0.498 0.025 -0.0068 0.181
        1.376 0.501 0.496 0.0051 -0.0159 0.169
        1.376 0.502 0.496 0.00752 -0.0155 0.172
        1.374 0.503 0.497 0.0112 -0.0128 0.178
        1.373 0.504 0.497 0.0152 -0.0111 0.192
        """,
    ),
    "recipe=wasserstein_clip": (
        ("discriminator too weak", 250, "penalty=wgan_gp"),
        """
        -0.0125 0.626 0.623 0.515 0.503 0.152
        -0.002167 0.596 0.596 0.391 0.389 0.155
        -0.001285 0.513 0.513 0.0527 0.0514 0.156
        -0.0002541 0.510 0.510 0.0409 0.0406 0.156
        -0.0002551 0.505 0.505 0.0191 0.0189 0.158
        """,
    ),
}
"""Runs by their overrides, each with the problem, since when it is seen, and what to try."""

WENT_WELL = {
    "recipe=hinge_sn": """
        0.3342 0.820 0.340 1.53 -0.666 0.133
        0.0003984 0.843 0.263 1.68 -1.03 0.126
        1.701 0.678 0.607 0.754 0.438 0.133
        1.648 0.625 0.541 0.522 0.166 0.118
        2.066 0.668 0.682 0.705 0.768 0.122
        0.6968 0.639 0.311 0.617 -0.807 0.126
        0.3278 0.728 0.272 1.1 -0.991 0.176
        0.6757 0.656 0.317 0.703 -0.779 0.328
        0.4148 0.701 0.285 0.941 -0.927 0.393
        0.5373 0.688 0.303 0.868 -0.849 0.431
        """,
    "recipe=wgan_gp": """
        -12.12 1.000 1.000 28.8 16.7 0.192
        -1.086 1.000 1.000 15.3 14.2 0.155
        -3.098 0.844 0.552 3.42 0.32 0.166
        -4.03 0.880 0.451 3.77 -0.256 0.182
        -5.877 0.986 0.682 6.77 0.896 0.211
        -5.933 0.980 0.570 6.27 0.334 0.238
        -7.179 0.990 0.517 7.25 0.0728 0.257
        -7.994 0.999 0.780 9.38 1.38 0.271
        -8.302 0.999 0.734 9.4 1.09 0.300
        -8.318 0.999 0.752 9.5 1.18 0.328
        """,
    "recipe=non_saturating_r1": """
        1.127 0.590 0.446 0.372 -0.217 0.184
        0.967 0.650 0.401 0.683 -0.406 0.403
        0.9505 0.637 0.376 0.619 -0.514 0.450
        0.8557 0.663 0.340 0.751 -0.674 0.480
        0.8868 0.648 0.347 0.676 -0.641 0.524
        0.9636 0.627 0.373 0.573 -0.531 0.587
        1.013 0.611 0.390 0.49 -0.456 0.667
        1.013 0.609 0.385 0.491 -0.477 0.686
        0.9814 0.619 0.378 0.522 -0.505 0.706
        1.077 0.590 0.410 0.384 -0.372 0.726
        """,
    "recipe=minimax": """
        1.156 0.702 0.546 0.88 0.188 0.228
        1.036 0.640 0.431 0.614 -0.282 0.199
        0.4604 0.819 0.204 2.12 -1.4 0.202
        0.8089 0.735 0.313 1.58 -0.885 0.287
        0.4718 0.836 0.198 3.23 -1.5 0.342
        0.6053 0.813 0.229 3.66 -1.52 0.389
        0.1826 0.930 0.091 6 -2.47 0.410
        0.1346 0.947 0.063 6.93 -2.95 0.394
        0.1876 0.931 0.073 6.25 -3.06 0.380
        0.1195 0.956 0.053 9.12 -3.24 0.382
        """,
}


def records(table: str, every: int = 250, first: int = 250) -> list[dict[str, float]]:
    """Return the rows of a table as records."""
    rows = [list(map(float, line.split())) for line in table.split("\n") if line.strip()]
    steps = range(first, first + every * len(rows), every)
    return [
        {"step": step, **dict(zip(COLUMNS, row, strict=True))}
        for step, row in zip(steps, rows, strict=True)
    ]


def config(overrides: str) -> dict[str, Any]:
    return flatten(compose(*overrides.split()))


@pytest.mark.parametrize("overrides", FAILED)
def test_a_run_that_failed_gets_a_sentence_with_a_name_and_something_to_try(
    overrides: str,
) -> None:
    (problem, since, advice), table = FAILED[overrides]
    found = verdict_of(records(table), config(overrides))
    assert found
    assert (found.problem, found.since) == (problem, since)
    assert found.text.endswith(f" since step {since:,}: {problem}; try {advice}")


@pytest.mark.parametrize("overrides", WENT_WELL)
def test_a_run_that_went_well_gets_no_sentence_at_any_step(overrides: str) -> None:
    watch = Watch(config(overrides))
    assert [watch.follow(record) for record in records(WENT_WELL[overrides])] == [None] * 10


def test_a_problem_is_told_once_and_taken_back_when_it_has_passed() -> None:
    good, bad = "0.9 0.6 0.4 0.4 -0.4 0.7\n", "0.9 0.6 0.4 0.4 -0.4 0.01\n"
    watch = Watch(config("penalty=r1"))
    told = {}
    for record in records(bad * 10 + good * 2 + bad + good * 8, every=200, first=200):
        if sentence := watch.follow(record):
            told[record["step"]] = sentence
    assert told == {
        1200: "all samples are nearly the same since step 200: mode collapse; try trainer.pac=2",
        # The problem was back at step 2,600, so the good steps count from 2,800.
        3800: "mode collapse, which was seen since step 200, has passed",
    }
    assert watch.verdict is None


def shares(step: int, **values: float) -> dict[str, float]:
    classes = {f"share/digit_{n}": values.get(f"digit_{n}", 0.0) for n in range(10)}
    return {"step": step, "samples/diversity": 0.8, **classes}


def test_few_digits_are_named() -> None:
    watch = Watch(config("penalty=none"))
    two = {"digit_1": 0.5, "digit_7": 0.25, "digit_3": 0.125}
    assert watch.follow(shares(4000, **two)) is None
    sentence = watch.follow(shares(5000, **two))
    assert sentence == (
        "digits 1 and 7 make up 86% of the samples since step 4,000: mode collapse; try penalty=r1"
    )


@pytest.mark.parametrize(
    "values",
    [
        {"digit_1": 0.25, "digit_7": 0.125},  # Most of the samples are no clear digits.
        {"digit_1": 0.25, "digit_7": 0.25, "digit_3": 0.125, "digit_9": 0.125},
    ],
)
def test_digits_that_say_nothing_are_not_named(values: dict[str, float]) -> None:
    watch = Watch(config("penalty=none"))
    assert [watch.follow(shares(step, **values)) for step in (1000, 3000, 9000)] == [None] * 3


@pytest.mark.parametrize("name", LOSS_OF_GUESSING)
def test_the_loss_of_guessing_is_that_of_equal_logits(name: str) -> None:
    # The best that the least squares loss allows is halfway between its targets.
    logits = torch.full((4, 1), 0.5 if name == "least_squares" else 0.0)
    loss = getattr(losses, name)().discriminator(logits, logits)
    assert loss.item() == pytest.approx(LOSS_OF_GUESSING[name])


def test_loss_of_somebody_else_is_not_judged_by_ours_of_the_same_name() -> None:
    own = config("loss=hinge") | {"loss._target_": "my_losses.hinge"}
    near = {"loss/discriminator": 0.01, "prob/real": 0.6, "prob/fake": 0.4}
    assert _certain(near, config("loss=hinge"))
    assert not _certain(near, own)


def test_every_loss_is_known_or_has_no_best_value() -> None:
    names = {path.stem for path in CONF_DIR.glob("loss/*.yaml")}
    assert names == {*LOSS_OF_GUESSING, "wasserstein"}


def test_a_smooth_target_hides_no_certainty() -> None:
    # With label smoothing 0.1 the best discriminator gives 0.9 to real samples.
    best = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    rows = f"{best + 0.01} 0.90 0.001 2.2 -7 0.5\n" * 10
    found = verdict_of(records(rows), config("loss.label_smoothing=0.1"))
    assert found
    assert found.problem == "discriminator too strong"


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        ("penalty=none", "penalty=r1"),
        ("model=dcgan_small penalty=none", "penalty=r1 model.discriminator_norm=none"),
        ("loss=wasserstein penalty=none", "penalty=wgan_gp"),
        ("recipe=wasserstein_clip", "penalty=wgan_gp"),
        ("recipe=hinge_sn", "trainer.pac=2"),
        ("recipe=hinge_sn trainer.pac=2", "optimizer.lr=0.0001"),
        ("optimizer.lr=0.02", "optimizer.lr=0.0002"),
        ("discriminator_optimizer.lr=1e-5", "discriminator_optimizer.lr=0.0002"),
    ],
)
def test_what_to_try_fits_the_run(overrides: str, advice: str) -> None:
    chosen = config(overrides)
    found = verdict_of(records("0.9 0.6 0.4 0.4 -0.4 0.01\n" * 5), chosen)
    assert found
    assert found.text.endswith(f"; try {advice}")
    # It can be trained, and it is another run.
    assert config(f"{overrides} {advice}") != chosen


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let samples that are alike be told after a few steps, as those of untrained networks are."""
    alike = next(rule for rule in verdict.RULES if "_alike" in rule.seen.__name__)
    rule = Rule(alike.problem, 15, alike.needs, lambda *_: "samples are alike", alike.advice)
    monkeypatch.setattr(verdict, "RULES", (rule,))


def texts(run_dir: Path) -> list[tuple[int, str]]:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    (tag,) = (tag for tag in events.Tags()["tensors"] if tag.startswith("verdict"))
    return [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]


def test_a_verdict_is_in_the_log_in_tensorboard_and_in_the_result(
    impatient: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "gan"):
        run(short(), tmp_path / "run")
    text = "samples are alike since step 15: mode collapse; try trainer.pac=2"
    result = read_result(tmp_path / "run")
    assert result
    assert result["verdict"] == {"problem": "mode collapse", "since": 15, "text": text}
    assert texts(tmp_path / "run") == [(30, text)]
    # Once when it is seen, and once at the end.
    assert [f"{tmp_path / 'run'}: {text}"] * 2 == [r.getMessage() for r in caplog.records]
    assert (tmp_path / "run" / "train.log").read_text().count(text) == 2


def test_a_resumed_run_has_the_same_verdict(impatient: None, tmp_path: Path) -> None:
    run(short(), tmp_path / "whole")
    fail_at(38, short(), tmp_path / "resumed")
    run(short(), tmp_path / "resumed")
    whole, resumed = (read_result(tmp_path / name) for name in ("whole", "resumed"))
    assert whole
    assert resumed
    assert resumed["verdict"] == whole["verdict"] is not None
    assert texts(tmp_path / "resumed") == texts(tmp_path / "whole")
    # Where the event file is lost, its texts come back.
    fail_at(38, short(), tmp_path / "lost")
    (events,) = (tmp_path / "lost").glob("events.*")
    events.unlink()
    run(short(), tmp_path / "lost")
    assert texts(tmp_path / "lost") == texts(tmp_path / "whole")


def test_a_run_without_a_problem_has_no_verdict(tmp_path: Path) -> None:
    run(short("logging=quiet"), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result
    assert result["verdict"] is None


def test_samples_are_looked_at_where_they_are_measured_or_drawn(tmp_path: Path) -> None:
    with_metrics, without = tmp_path / "with", tmp_path / "without"
    run(short("logging=quiet"), with_metrics)
    run(short("logging=quiet", "metrics=none", "logging.every=5"), without)
    looked = {
        path: [r["step"] for r in read_records(path) if "samples/diversity" in r]
        for path in (with_metrics, without)
    }
    assert looked == {with_metrics: [15, 30, 40], without: [10, 20, 30, 40]}


@pytest.mark.slow
def test_a_run_that_collapses_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    base = ["threads=1", "model.hidden_dim=64", "trainer.batch_size=32", "metrics=none"]
    base += ["trainer.max_steps=2500", "logging=quiet", "logging.samples_every=250"]
    base += ["logging.every=50"]
    run(compose(*base), tmp_path / "healthy")
    run(compose(*base, "penalty=none", "optimizer.lr=1e-2"), tmp_path / "collapsed")
    problems = {}
    for name in ("healthy", "collapsed"):
        result = json.loads((tmp_path / name / "result.json").read_text())
        problems[name] = result["verdict"] and result["verdict"]["problem"]
    assert problems["healthy"] is None
    assert problems["collapsed"] in ("mode collapse", "discriminator too strong")
