"""Samples and metrics of a generator: its weights, its classes, and data that do not fit."""

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from runs import content, fail_at, interrupt_at, short
from torch import Tensor, nn

from gan.commands.generate import write_samples
from gan.config.compose import compose
from gan.errors import Interrupted, NotFinite, UserError
from gan.metrics import lenet
from gan.run.directory import read_config
from gan.run.evaluation import arrange_latents, draw_latents, generate
from gan.run.result import read_records, read_result
from gan.run.trained import load_generator
from gan.train import run


def test_each_class_has_a_row_of_the_same_latents() -> None:
    z = draw_latents(13, 5, seed=0)
    rows, labels, columns = arrange_latents(z, classes=4)
    assert columns == 3
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert torch.equal(rows.view(4, 3, 5), z[:3].expand(4, 3, 5))
    assert arrange_latents(z, classes=0) == (z, None, None)
    few = arrange_latents(z[:2], classes=4)
    assert few.labels is not None
    assert few.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("samples", "classes", "columns"), [(64, 1000, 8), (2000, 1000, 44), (64, 10, 6), (64, 50, 7)]
)
def test_a_grid_of_many_classes_is_no_tower(samples: int, classes: int, columns: int) -> None:
    grid = arrange_latents(draw_latents(samples, 2, seed=0), classes)
    assert grid.columns == columns


class LatentsAsImages(nn.Module):
    """A generator whose images have one pixel, with the value of the latent."""

    def forward(self, z: Tensor) -> Tensor:
        assert not self.training
        return z.view(-1, 1, 1, 1)


def test_samples_that_are_not_finite_are_refused() -> None:
    network = LatentsAsImages()
    z = torch.linspace(-1, 1, 5)[:, None]
    assert generate(network, z).flatten().tolist() == [0, 64, 128, 191, 255]
    assert network.training
    for value in (torch.nan, torch.inf):
        z[3] = value
        with pytest.raises(NotFinite):
            generate(network, z)


@pytest.mark.slow
def test_conditional_generator_makes_the_class_that_it_is_asked_for(tmp_path: Path) -> None:
    overrides = ["model=small", "model.conditional=true", "optimizer.lr=1e-3", "penalty.gamma=1"]
    overrides += ["trainer.batch_size=64", "trainer.max_steps=1500", "trainer.ema_half_life=3000"]
    overrides += ["metrics=none", "logging.progress=false", "logging.samples=40", "threads=1"]
    run_dir = tmp_path / "run"
    run(compose(*overrides), run_dir)
    trained = load_generator(run_dir)
    assert (trained.classes, trained.weights) == (10, "average")
    z, labels, _ = arrange_latents(draw_latents(500, trained.latent_dim, seed=1), trained.classes)
    assert labels is not None
    samples = generate(trained.network, z, labels)
    classes = lenet.load("mnist").probabilities(samples).argmax(1)
    assert (classes == labels).double().mean() > 0.7

    write_samples(run_dir, tmp_path / "seven.npz", count=20, seed=0, label=7)
    import numpy as np

    with np.load(tmp_path / "seven.npz") as arrays:
        images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2)
        assert arrays["labels"].tolist() == [7] * 20
    sevens = lenet.load("mnist").probabilities(images).argmax(1) == 7
    assert sevens.double().mean() > 0.7
    for label in (-1, 10):
        with pytest.raises(UserError, match=f"label={label}: must be a class from 0 to 9"):
            write_samples(run_dir, tmp_path / "no.png", count=4, seed=0, label=label)
    assert not (tmp_path / "no.png").exists()


AVERAGED = ("trainer.ema_half_life=200", "trainer.n_critic=2", "trainer.augment=[translation]")


def test_averaged_weights_are_shown_measured_saved_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, resumed = tmp_path / "undisturbed", tmp_path / "resumed"
    run(short(*AVERAGED, "penalty=wgan_gp"), undisturbed)
    result = read_result(undisturbed)
    assert result is not None
    assert result["measured"]["weights"] == "average"
    plain = load_generator(undisturbed, "generator")
    average = load_generator(undisturbed)
    assert (plain.weights, average.weights) == ("generator", "average")
    pairs = zip(plain.network.parameters(), average.network.parameters(), strict=True)
    assert not all(torch.equal(ours, theirs) for ours, theirs in pairs)

    def stop() -> None:
        raise Interrupted("stopped", exit_code=1)

    with monkeypatch.context() as patch:
        interrupt_at(patch, 24, stop)
        with pytest.raises(Interrupted):
            run(short(*AVERAGED, "penalty=wgan_gp"), resumed)
    run(short(*AVERAGED, "penalty=wgan_gp"), resumed)
    assert content(resumed) == content(undisturbed)


def test_weights_that_a_run_has_not_saved_are_refused(tmp_path: Path) -> None:
    run(short("trainer.max_steps=2", "metrics=none", "logging=quiet"), tmp_path / "run")
    assert load_generator(tmp_path / "run").weights == "generator"
    with pytest.raises(UserError, match=r"weights=average: .* kept no average"):
        load_generator(tmp_path / "run", "average")
    with pytest.raises(UserError, match="did you mean 'average'"):
        load_generator(tmp_path / "run", "averge")
    with pytest.raises(UserError, match=r"label=3: .* not conditional"):
        write_samples(tmp_path / "run", tmp_path / "x.png", count=2, seed=0, label=3)


def test_record_without_an_update_of_the_generator_has_no_loss_of_the_generator(
    tmp_path: Path,
) -> None:
    run(short("trainer.n_critic=10", "logging.every=5", "metrics=none"), tmp_path / "run")
    records = read_records(tmp_path / "run")
    for name in ("loss/generator", "grad_norm/generator"):
        assert [(name in record) for record in records] == [False, True] * 4
    assert all(record["loss/discriminator"] > 0 for record in records)


@pytest.mark.parametrize("data", ["ring8", "spiral"])
def test_points_are_trained_plotted_and_measured(tmp_path: Path, data: str) -> None:
    overrides = [f"data={data}", "metrics=points", "metrics.samples=500", "penalty.interval=2"]
    run(short(*overrides, "trainer.max_steps=20"), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result is not None
    assert set(result["best"]) == {"modes", "high_quality", "reverse_kl"}
    assert result["objective_name"] == "reverse_kl"
    from PIL import Image

    with Image.open(tmp_path / "run/samples/step-000020.png") as image:
        assert image.mode == "RGB"
    write_samples(tmp_path / "run", tmp_path / "points.npz", count=30, seed=0)
    import numpy as np

    with np.load(tmp_path / "points.npz") as arrays:
        assert arrays["points"].shape == (30, 2)
    write_samples(tmp_path / "run", tmp_path / "points.png", count=30, seed=0)
    with pytest.raises(UserError, match="points and vectors make no walk and no folder"):
        write_samples(tmp_path / "run", tmp_path / "points.gif", count=30, seed=0)


def test_run_whose_samples_are_not_finite_ends_as_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: object, **named: object) -> Tensor:
        raise NotFinite("the samples are not finite")

    monkeypatch.setattr("gan.run.evaluation.generate", fails)
    run(short("logging.samples_every=40"), tmp_path / "run")
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["status"], result["steps"]) == ("diverged", 15)


def test_divergence_that_a_drawing_meets_first_counts_from_the_first_wrong_loss(
    tmp_path: Path,
) -> None:
    overrides = ("optimizer=sgd", "optimizer.lr=1e30", "metrics=none", "logging.tensorboard=false")
    steps = []
    for name, every in (("drawn", "logging.samples_every=6"), ("logged", "logging.every=6")):
        others = ("logging.every=1000", "logging.samples_every=1000", "metrics.every=1000")
        assert run(short(*overrides, *others, every), tmp_path / name) == math.inf
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["status"] == "diverged"
        steps.append(result["steps"])
    assert steps[0] == steps[1] < 6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("data=ring8 metrics=fast", "lenet_fid is for grey images, and these data are points"),
        ("data=ring8 trainer.augment=[cutout]", "trainer.augment="),
        (
            "metrics.names=[high_quality] metrics.objective=high_quality",
            "high_quality is for a mixture of points",
        ),
        (
            "metrics.names=[inception_fid] metrics.objective=inception_fid",
            "inception_fid compares features of inception, and these are of lenet/mnist",
        ),
        (
            "data=digits metrics.names=[modes] metrics.objective=modes",
            "modes is for a mixture, or images whose classes",
        ),
        ("metrics=fast metrics.samples=100", "metrics.samples=100: lenet_fid needs 129 samples"),
        ("metrics.names=[recall] metrics.objective=recall metrics.samples=5", "recall needs 6"),
        ("data=ring8 model=dcgan", "DCGAN"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused_and_leave_nothing(
    tmp_path: Path, overrides: str, message: str
) -> None:
    with pytest.raises(UserError) as raised:
        run(compose(*overrides.split()), tmp_path / "run")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_a_run_of_a_version_without_features_and_protocols_goes_on(tmp_path: Path) -> None:
    cfg = short("metrics.samples=64", "logging=quiet")
    run(cfg, tmp_path / "whole")
    fail_at(33, cfg, tmp_path / "run")
    stored = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    del stored["features"], stored["metrics"]["real"], stored["metrics"]["protocol"]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(stored))
    run(read_config(tmp_path / "run"), tmp_path / "run")
    whole, resumed = (read_result(tmp_path / name) for name in ("whole", "run"))
    assert whole
    assert resumed
    assert resumed["objective"] == whole["objective"]
    assert resumed["measured"] == whole["measured"]
