"""Latents and batch statistics that a trained generator is sampled with (arXiv:1809.11096)."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gan
from gan.commands import evaluate
from gan.commands.evaluate import measure_runs, measuring_config
from gan.commands.export import Options, export
from gan.commands.generate import write_samples
from gan.errors import UserError
from gan.run.evaluation import draw_latents
from gan.run.trained import TrainedGenerator, load_generator, take_standing_statistics

TWO_STEPS = ("trainer.max_steps=2", "trainer.batch_size=16", "metrics=none", "logging=quiet")


def test_only_values_beyond_the_threshold_are_drawn_again() -> None:
    free, truncated = (draw_latents(4000, 5, seed=1, truncation=t) for t in (None, 0.8))
    within = free.abs() <= 0.8
    assert torch.equal(truncated[within], free[within])
    assert truncated.abs().max() <= 0.8
    again = truncated[~within].double().sort().values
    # The distribution function of a normal number that is known to lie within the threshold.
    reach = math.erf(0.8 / math.sqrt(2))
    expected = (torch.erf(again / math.sqrt(2)) / reach + 1) / 2
    steps = torch.linspace(0, 1, len(again), dtype=torch.float64)
    assert (expected - steps).abs().max() < 1.63 / math.sqrt(len(again))
    assert torch.equal(truncated, draw_latents(4000, 5, seed=1, truncation=0.8))
    assert draw_latents(100, 5, seed=1, truncation=1e-9).abs().max() <= 1e-9
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match=r"truncation=.*: must be above 0"):
            draw_latents(1, 1, 0, truncation=wrong)


@pytest.fixture(scope="module", params=["unconditional", "conditional"])
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps whose generator has batch norm."""
    folder = tmp_path_factory.mktemp("standing") / "run"
    choices = ["data=digits", "model.hidden_dim=8", "model.generator_norm=batch", *TWO_STEPS]
    choices += [f"model.conditional={str(request.param == 'conditional').lower()}", "threads=1"]
    gan.run(*choices, run_dir=folder)
    return folder


def first_norm(trained: TrainedGenerator) -> nn.BatchNorm1d:
    return next(layer for layer in trained.modules() if isinstance(layer, nn.BatchNorm1d))


def mean_of(layer: nn.BatchNorm1d) -> Tensor:
    assert layer.running_mean is not None
    return layer.running_mean.clone()


def test_standing_statistics_are_means_over_batches_of_the_generator_as_it_is(
    run_dir: Path,
) -> None:
    trained = load_generator(run_dir)
    means, variances = [], []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (batch,) = inputs
        assert len(batch) == 16
        means.append(batch.mean(0))
        variances.append(batch.var(0))

    layer = first_norm(trained)
    before, momentum = mean_of(layer), layer.momentum
    hook = layer.register_forward_pre_hook(note)
    take_standing_statistics(trained, 5, truncation=0.7)
    hook.remove()
    assert len(means) == 5
    torch.testing.assert_close(mean_of(layer), torch.stack(means).mean(0))
    torch.testing.assert_close(layer.running_var, torch.stack(variances).mean(0))
    assert not torch.allclose(mean_of(layer), before)
    assert layer.momentum == momentum
    assert not any(module.training for module in trained.modules())
    again = load_generator(run_dir)
    take_standing_statistics(again, 5, truncation=0.7)
    assert torch.equal(mean_of(first_norm(again)), mean_of(layer))
    take_standing_statistics(again, 0)
    assert torch.equal(mean_of(first_norm(again)), mean_of(layer))


def test_every_command_samples_with_standing_statistics(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = gan.load_generator(run_dir, standing=3)
    expected = gan.sample(trained, 20)
    assert not torch.equal(expected, gan.sample(run_dir, 20))
    file = tmp_path / "a.safetensors"
    export([run_dir], Options(file, standing=3))
    assert torch.equal(gan.sample(file, 20), expected)
    pictures = [tmp_path / f"{name}.png" for name in "abc"]
    write_samples(run_dir, pictures[0], count=20, seed=0, standing=3)
    write_samples(file, pictures[1], count=20, seed=0, with_caption=False)
    write_samples(run_dir, pictures[2], count=20, seed=0, standing=3, with_caption=False)
    assert pictures[2].read_bytes() == pictures[1].read_bytes()
    options = evaluate.Options("sliced_wasserstein", samples=40, split="train")
    settings, values = measuring_config(options).metrics, []
    for standing in (0, 3):
        (found,) = measure_runs(
            [run_dir], settings, name="x", weights="auto", device="cpu", standing=standing
        )
        values.append(found.values)
    assert values[0] != values[1]


def test_standing_statistics_need_batch_norm(tmp_path: Path) -> None:
    gan.run("data=digits", "model.hidden_dim=8", *TWO_STEPS, "threads=1", run_dir=tmp_path / "run")
    trained = load_generator(tmp_path / "run")
    with pytest.raises(UserError, match="standing=2: must be 0, as the generator has no batch"):
        take_standing_statistics(trained, 2)
    with pytest.raises(UserError, match="standing=-2: must be at least 0"):
        take_standing_statistics(trained, -2)
    out = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match="standing=1: must be 0"):
        export([tmp_path / "run"], Options(out, standing=1))
    assert not out.exists()
