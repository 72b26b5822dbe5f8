"""The library and the precision of matrix products, and how a run keeps to them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from runs import content, short
from torch import nn

from gan import arithmetic
from gan.arithmetic import (
    bf16_slowdown,
    fastest_exact_library,
    linear_layers,
    matmul_by,
    onednn_is_exact,
    thread_count,
)
from gan.errors import UserError
from gan.functional.run_step import make_step
from gan.run import rounding
from gan.run.directory import read_config
from gan.run.result import read_result
from gan.run.run import Run
from gan.train import after_step, run, train_one_step

LAYERS = ((128, 784, 256), (128, 256, 256))


@pytest.fixture(autouse=True)
def _forget_probes() -> Iterator[None]:
    yield
    fastest_exact_library.cache_clear()
    onednn_is_exact.cache_clear()
    bf16_slowdown.cache_clear()


def settings() -> tuple[str, bool, int]:
    allow_tf32: bool = torch.backends.cudnn.allow_tf32
    return torch.get_float32_matmul_precision(), allow_tf32, torch.get_num_threads()


@pytest.mark.parametrize(
    ("library", "tf32", "precision"),
    [
        ("default", False, "highest"),
        ("onednn", False, "medium"),
        (None, False, "highest"),
        ("default", True, "high"),
    ],
)
def test_settings_of_the_process_are_as_before_after_a_block_that_fails(
    library: str | None, tf32: bool, precision: str
) -> None:
    def fail() -> None:
        with thread_count(1), matmul_by(library, tf32=tf32):
            assert settings() == (precision, tf32, 1)
            raise ZeroDivisionError

    before = settings()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert settings() == before


def test_layers_are_those_of_both_networks_with_the_largest_first() -> None:
    generator = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 100))
    discriminator = nn.utils.parametrizations.spectral_norm(nn.Linear(100, 4))
    networks = (generator, nn.Sequential(discriminator, nn.Conv2d(1, 2, 3)))
    assert linear_layers(networks, 16) == ((16, 100, 4), (16, 4, 100), (16, 8, 4))


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("is_exact", [True, False])
def test_library_is_taken_if_it_is_clearly_faster_and_as_exact(
    share: float, is_exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(left: torch.Tensor, right: torch.Tensor) -> float:
        return share if torch.get_float32_matmul_precision() == "medium" else 1.0

    monkeypatch.setattr(arithmetic, "_seconds", seconds)
    monkeypatch.setattr(arithmetic, "onednn_is_exact", lambda layers: is_exact)
    expected = "onednn" if is_exact and share == 0.5 else "default"
    assert fastest_exact_library(LAYERS) == expected


def test_networks_too_small_to_gain_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "_seconds", pytest.fail)
    assert fastest_exact_library(((128, 784, 32),)) == fastest_exact_library(()) == "default"


def test_exactness_is_that_of_products_beside_float64() -> None:
    left, right = torch.randn(128, 784), torch.randn(784, 256)
    errors = []
    for library in ("default", "onednn"):
        with matmul_by(library):
            errors.append((left @ right - left.double() @ right.double()).norm())
    assert onednn_is_exact(LAYERS) == bool(errors[1] < 50 * errors[0])


def test_onednn_is_exact_on_a_processor_without_units_for_bf16() -> None:
    code = "from gan.arithmetic import onednn_is_exact as f; print(f(((128, 784, 256),)))"
    # oneDNN then takes this processor for an older one.
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def train_with_a_break(run_dir: Path, *overrides: str) -> None:
    """Train a run to step 13, and go on from its checkpoint in step 10."""
    with Run.open(short(*overrides), run_dir) as opened:
        step = make_step(opened)
        with opened.active():
            for _ in range(13):
                train_one_step(opened, step)
                after_step(opened)
    run(short(*overrides), run_dir)


def test_resumed_run_keeps_the_library_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "onednn_is_exact", lambda layers: True)
    choices = iter(["onednn", "onednn", "default"])
    monkeypatch.setattr(rounding, "fastest_exact_library", lambda layers: next(choices))
    run(short(), tmp_path / "undisturbed")
    train_with_a_break(tmp_path / "run")
    assert read_config(tmp_path / "run").matmul == "onednn"
    result = read_result(tmp_path / "run")
    assert result
    assert result["matmul"] == "onednn"
    assert content(tmp_path / "run") == content(tmp_path / "undisturbed")


def test_run_goes_on_by_the_default_library_where_the_other_one_rounds_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounding, "onednn_is_exact", lambda layers: True)
    with Run.open(short("matmul=onednn"), tmp_path / "run") as opened:
        assert opened.cfg.matmul == "onednn"
    monkeypatch.setattr(rounding, "onednn_is_exact", lambda layers: False)
    with Run.open(short("matmul=onednn"), tmp_path / "run") as opened:
        assert opened.cfg.matmul == "default"
    assert "going on by the default library" in caplog.text
    assert read_config(tmp_path / "run").matmul == "onednn"


def test_run_of_an_earlier_version_goes_on_by_the_default_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(short("matmul=default"), tmp_path / "undisturbed")
    run_dir = tmp_path / "run"
    with Run.open(short(), run_dir) as opened:
        step = make_step(opened)
        with opened.active():
            for _ in range(10):
                train_one_step(opened, step)
                after_step(opened)
    stored = read_config(run_dir)
    del stored["matmul"]
    (run_dir / "config.yaml").write_text(OmegaConf.to_yaml(stored))
    monkeypatch.setattr(rounding, "fastest_exact_library", pytest.fail)
    with Run.open(short(), run_dir) as opened:
        assert (opened.step, opened.cfg.matmul) == (10, "default")
    run(short(), run_dir)
    assert content(run_dir) == content(tmp_path / "undisturbed")


def test_tf32_lets_onednn_round_and_metrics_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run.open(short("trainer.precision=tf32"), tmp_path / "run") as opened:
        assert opened.cfg.matmul == "onednn"
        with opened.active():
            assert torch.get_float32_matmul_precision() == "medium"
            seen = []
            generator = opened.parts.generator
            generator.register_forward_hook(
                lambda *_: seen.append(torch.get_float32_matmul_precision())
            )
            opened.evaluation.measure()
            opened.evaluation.picture()
    assert set(seen) == {"highest"}


def test_library_that_rounds_more_is_refused_with_the_precision_that_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "onednn_is_exact", lambda layers: False)
    with pytest.raises(UserError, match=r"^matmul=onednn: .*; trainer\.precision=tf32 allows it$"):
        run(short("matmul=onednn"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("width", "is_told"), [(256, False), (512, True)])
@pytest.mark.parametrize("has_units", [True, False])
def test_run_of_large_layers_is_told_of_the_precision_that_may_be_faster(
    width: int, is_told: bool, has_units: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rounding, arithmetic):
        monkeypatch.setattr(module, "onednn_is_exact", lambda layers: not has_units)
    words = [f"model.hidden_dim={width}", "trainer.batch_size=128", "data=mnist5k"]
    with Run.open(short(*words), tmp_path / "run"):
        pass
    told = "tf32 may be faster" in " ".join((tmp_path / "run/train.log").read_text().split())
    assert told == (is_told and has_units)


@pytest.mark.parametrize(("steps", "compiles"), [(19_999, False), (20_000, True)])
def test_only_a_long_run_is_compiled_where_that_is_left_to_the_program(
    steps: int, compiles: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    words = [f"trainer.max_steps={steps}", "trainer.compile=auto"]
    with Run.open(short(*words), tmp_path / "run") as opened:
        assert opened.cfg.trainer.compile is compiles
    assert read_config(tmp_path / "run").trainer.compile is compiles
    # A machine without a compiler would choose otherwise, and a run keeps what was chosen.
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with Run.open(short(*words), tmp_path / "run") as opened:
        assert opened.cfg.trainer.compile is compiles


def test_run_that_cannot_be_compiled_is_trained_eagerly_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounding, "COMPILED_FROM", 1)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")

    def fails(graph: object, **options: object) -> Callable[..., object]:
        def call(*inputs: object) -> object:
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    run(short("trainer.compile=auto"), tmp_path / "run")
    run(short(), tmp_path / "eager")
    assert "trainer.compile=auto: steps are not compiled" in caplog.text
    assert read_config(tmp_path / "run").trainer.compile is False
    assert content(tmp_path / "run") == content(tmp_path / "eager")


def test_run_in_bf16_is_warned_where_bf16_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast = short("trainer.max_steps=1", "trainer.precision=bf16")
    monkeypatch.setattr(rounding, "bf16_slowdown", lambda layer: 0.6)
    run(fast, tmp_path / "fast")
    assert "products in bf16" not in caplog.text
    monkeypatch.setattr(rounding, "bf16_slowdown", lambda layer: 13.7)
    run(short("trainer.max_steps=1"), tmp_path / "fp32")
    assert "products in bf16" not in caplog.text
    run(fast, tmp_path / "slow")
    assert "14 times as long for products in bf16 as in fp32" in caplog.text


def test_slowdown_by_bf16_is_that_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {torch.float32: 2.0, torch.bfloat16: 5.0}
    monkeypatch.setattr(arithmetic, "_seconds", lambda left, right: times[left.dtype])
    state = torch.get_rng_state()
    assert bf16_slowdown((4, 3, 2)) == 2.5
    assert torch.equal(torch.get_rng_state(), state)
