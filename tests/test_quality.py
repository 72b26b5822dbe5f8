"""A short training on real digits passes a check that noise and collapsed samples fail."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gan.config.compose import compose
from gan.data import ImageData, mnist5k, to_float
from gan.run.evaluation import draw_latents, generate
from gan.run.trained import load_generator
from gan.train import run

COUNT = 500


@pytest.fixture(scope="module")
def real(data_root: Path) -> ImageData:
    return mnist5k(root=str(data_root))


def find_faults(images: Tensor, real: ImageData) -> set[str]:
    """Return the faults of images as samples of the data set.

    Each image is compared with the real image that is nearest to it. It should be about as near as
    another real image is. The nearest images should be different ones, of most of the ten classes.
    """
    points, references = (to_float(x).flatten(1) for x in (images, real.images[::2]))
    distance, nearest = torch.cdist(points, references).min(1)
    usual = torch.cdist(to_float(real.images[1::20]).flatten(1), references).min(1)[0].median()
    classes = torch.bincount(real.labels[::2][nearest], minlength=10) / len(images)
    faults = set()
    if distance.median() > 1.3 * usual:
        faults.add("far from digits")
    if len(nearest.unique()) < 0.25 * len(images):
        faults.add("alike")
    if (classes > 0.02).sum() < 8:
        faults.add("few classes")
    return faults


def test_real_images_pass_the_check_and_noise_and_collapsed_samples_fail(real: ImageData) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (COUNT, 1, 28, 28)
    noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    jitter = 8 * torch.randn(shape, generator=generator)
    one = (real.images[:1] + jitter).clamp(0, 255).to(torch.uint8)
    ones_and_nines = real.images[(real.labels == 1) | (real.labels == 9)][1::2]
    untrained = torch.full(shape, 127, dtype=torch.uint8)
    assert find_faults(real.images[1::10], real) == set()
    assert "far from digits" in find_faults(noise, real)
    assert find_faults(one, real) >= {"alike", "few classes"}
    assert find_faults(ones_and_nines, real) == {"few classes"}
    assert find_faults(untrained, real) >= {"far from digits", "alike", "few classes"}


def test_short_training_makes_digits_of_most_classes(real: ImageData, tmp_path: Path) -> None:
    cfg = compose(
        "model=small",
        "optimizer.lr=1e-3",
        "penalty.gamma=10",
        "trainer.batch_size=64",
        "trainer.max_steps=1000",
        "logging=quiet",
        "threads=1",
    )
    distance = run(cfg, tmp_path / "run")
    trained = load_generator(tmp_path / "run")
    images = generate(trained.network, draw_latents(COUNT, trained.latent_dim, seed=1))
    assert find_faults(images, real) == set()
    assert distance < 0.25
