"""Schedules of the learning rate."""

import math
from pathlib import Path

import pytest

from gan.config.compose import compose
from gan.run.result import read_records
from gan.schedules import cosine, linear
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
