"""The diversity of samples: of copies, of few shapes, of noise, of points."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan.data import Data, image_data, mnist5k, ring8
from gan.metrics.diversity import SAMPLES, Diversity


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return mnist5k(root=str(tmp_path_factory.mktemp("data")))


def real(data: Data, count: int = SAMPLES) -> Tensor:
    """Return real samples, other ones than those that are compared with."""
    return data.real("test", count)[0]


def test_real_images_are_as_diverse_as_real_images_and_all_classes_occur(digits: Data) -> None:
    values = Diversity(digits)(real(digits))
    assert values.pop("samples/diversity") == pytest.approx(1, abs=0.15)
    assert list(values) == [f"share/digit_{n}" for n in range(10)]
    assert min(values.values()) > 0
    assert 0.7 < sum(values.values()) <= 1


def test_one_real_sample_says_nothing_about_diversity() -> None:
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    data = image_data(images)
    assert data.real_size("train") == 1
    assert Diversity(data)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)) == {}


def test_copies_of_an_image_have_no_diversity(digits: Data) -> None:
    one = real(digits)[:1].expand(SAMPLES, -1, -1, -1)
    assert Diversity(digits)(one)["samples/diversity"] == 0


def test_few_shapes_have_little_diversity_however_they_differ(digits: Data) -> None:
    eight = real(digits)[:8].repeat(8, 1, 1, 1)
    noise = torch.randint(0, 3, eight.shape, generator=torch.Generator().manual_seed(0))
    near = (eight.int() + noise - 1).clamp(0, 255).to(torch.uint8)
    assert Diversity(digits)(near)["samples/diversity"] < 0.2


def test_two_digits_have_all_of_the_shares(digits: Data) -> None:
    images, labels = digits.real("test", 1000)
    two = images[(labels == 1) | (labels == 7)][:SAMPLES]
    values = Diversity(digits)(two)
    shares = sorted((v, k) for k, v in values.items() if k.startswith("share/"))
    assert {name for _, name in shares[-2:]} == {"share/digit_1", "share/digit_7"}
    assert sum(share for share, _ in shares[:-2]) < 0.05


def test_noise_is_no_digit(digits: Data) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (SAMPLES, 1, 28, 28), generator=generator, dtype=torch.uint8)
    values = Diversity(digits)(noise)
    assert sum(share for name, share in values.items() if name.startswith("share/")) < 0.1


def test_points_belong_to_the_mode_that_they_are_near() -> None:
    data = ring8()
    assert data.modes is not None
    points = data.modes.centers[:1].repeat(SAMPLES, 1)
    points[: SAMPLES // 2] = 100.0
    values = Diversity(data)(points)
    assert values["share/mode_0"] == 0.5
    assert values["share/mode_1"] == 0


def test_data_that_a_classifier_does_not_know_have_no_shares(tmp_path: Path) -> None:
    from gan.data import image_data

    images = torch.randint(0, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    data = image_data(images.to(torch.uint8).numpy())
    measure = Diversity(data)
    assert measure.count < SAMPLES
    assert list(measure(data.real("train", measure.count)[0])) == ["samples/diversity"]
    same = image_data(images[:1].repeat(40, 1, 1, 1).to(torch.uint8).numpy())
    assert Diversity(same)(same.real("train", 8)[0]) == {}
