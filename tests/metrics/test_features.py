"""Feature extractors of one's own, and what is recorded of them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan.data import ImageData, mnist5k
from gan.errors import UserError
from gan.metrics import lenet
from gan.metrics.evaluator import Evaluator
from gan.metrics.features import OwnExtractor, as_extractor, content_hash

IMAGES = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8)


class Pixels(nn.Module):
    """A network with dropout, which must not be used as in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense, self.dropout = nn.Linear(64, width), nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (n, width)."""
        features: Tensor = self.dropout(self.dense(images.float().flatten(1)))
        return features


class Holder:
    """An object with a network and a method `features`."""

    def __init__(self, width: int = 3) -> None:
        self.network, self.scale = Pixels(width), 2.0

    def features(self, images: Tensor) -> Tensor:
        """Return features (n, width)."""
        features: Tensor = self.scale * self.network(images)
        return features


def means(images: Tensor) -> Tensor:
    """Return the mean of each row, (n, height)."""
    return images.double().mean((1, 3))


@pytest.fixture
def digits(data_root: Path) -> ImageData:
    return mnist5k(root=str(data_root))


def test_a_module_an_object_and_a_function_are_extractors() -> None:
    for made, width in ((Pixels(5), 5), (Holder(), 3), (means, 8)):
        extractor = as_extractor(made, "mine", "", IMAGES[:1])
        features = extractor.features(IMAGES)
        assert (features.dtype, tuple(features.shape)) == (torch.float64, (30, width))
        assert extractor.width == width
        assert torch.equal(features, extractor.features(IMAGES)), "dropout is off"


def test_an_extractor_of_this_package_is_used_as_it_is() -> None:
    network = lenet.load("mnist")
    assert as_extractor(network, "mine", "", IMAGES[:1]) is network


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (7, "must make an object with `features`, or a function, not a int"),
        (lambda images: images, r"must return features \(n, width\), not \(1, 1, 8, 8\)"),
        (lambda images: images.sum(), r"must return features \(n, width\)"),
        (lambda images: images @ torch.ones(3), r"fails on torch.uint8 samples of shape \(1, 1, 8"),
        (partial(nn.Conv2d(3, 1, 1)), r"fails on torch.uint8 samples"),
    ],
)
def test_what_is_no_extractor_is_refused_in_one_line(made: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as raised:
        as_extractor(made, "mine", "", IMAGES[:1])
    assert "\n" not in str(raised.value)


def test_lenet_is_refused_for_colour_images() -> None:
    with pytest.raises(UserError, match=r"fails on torch.uint8 samples of shape"):
        as_extractor(lenet.load("mnist"), "mine", "", IMAGES[:1].expand(-1, 3, -1, -1))


def test_a_module_with_a_part_of_the_name_features_is_called_itself() -> None:
    network = Pixels(5)
    network.features = nn.Conv2d(1, 1, 1)
    assert as_extractor(network, "mine", "", IMAGES[:1]).width == 5


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: network,
        partial,
        lambda n: lambda x: n(x),
        lambda network: network.forward,
        lambda network: partial(network.forward),
        lambda network: SimpleNamespace(features=None, networks=[network]),
        lambda network: SimpleNamespace(features=None, by_size={"small": (network,)}),
    ],
)
def test_the_hash_changes_with_any_weight_wherever_the_network_is_kept(
    wrap: Callable[[Pixels], Any],
) -> None:
    network = Pixels(2)
    before = content_hash(wrap(network))
    assert content_hash(wrap(network)) == before
    with torch.no_grad():
        network.dense.weight[0, 0] += 1
    assert content_hash(wrap(network)) != before


def test_a_bound_method_is_measured_in_evaluation_mode() -> None:
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(3), nn.BatchNorm1d(3))
    network(IMAGES.float())
    as_extractor(network.forward, "mine", "", IMAGES[:1].float())
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())


def test_the_hash_sees_settings_closures_and_the_origin() -> None:
    def scaled(scale: float) -> Callable[[Tensor], Tensor]:
        return lambda images: scale * means(images)

    assert content_hash(scaled(1.0)) == content_hash(scaled(1.0)) != content_hash(scaled(2.0))
    assert content_hash(means, "code 1") != content_hash(means, "code 2")
    one, other = Holder(), Holder()
    other.network = one.network
    assert content_hash(one) == content_hash(other)
    other.scale = 3.0
    assert content_hash(one) != content_hash(other)


def test_metrics_of_any_features_use_and_record_the_chosen_ones(
    digits: ImageData, tmp_path: Path
) -> None:
    extractor = OwnExtractor(means, "mine", "", IMAGES[:1])
    settings: dict[str, Any] = {"split": "test", "samples": 60, "cache": str(tmp_path)}
    fake = digits.real("train", 60)[0]
    measure = Evaluator(["fid", "recall"], digits, extractor=extractor, **settings)
    assert measure.facts["features"] == extractor.facts
    by_rows = measure(fake)
    with pytest.raises(UserError, match="fid needs 129 samples at least"):
        Evaluator(["fid", "recall"], digits, **settings)
    by_lenet = Evaluator(["recall"], digits, **settings)(fake)
    assert by_rows["recall"] != by_lenet["recall"]


def test_a_metric_that_is_named_after_a_network_takes_no_other_features(
    digits: ImageData, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"split": "test", "samples": 200, "cache": str(tmp_path)}
    extractor = OwnExtractor(means, "mine", "", IMAGES[:1])
    with pytest.raises(UserError, match="lenet_fid compares features of lenet, and these are of m"):
        Evaluator(["lenet_fid"], digits, extractor=extractor, **settings)
    with pytest.raises(UserError, match="choose features=inception, or a metric of any features"):
        Evaluator(["inception_kid"], digits, **settings)


def test_classes_of_grey_images_are_lenets_whatever_the_features_are(
    digits: ImageData, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"split": "test", "samples": 100, "cache": str(tmp_path)}
    names, fake = ["classifier_score", "modes"], digits.real("train", 100)[0]
    extractor = OwnExtractor(means, "mine", "", IMAGES[:1])
    own = Evaluator(names, digits, extractor=extractor, **settings)(fake)
    assert own == Evaluator(names, digits, **settings)(fake)


def test_the_number_of_real_samples_is_asked_for(digits: ImageData, tmp_path: Path) -> None:
    def real(asked: str, samples: int) -> int:
        settings: dict[str, Any] = {"samples": samples, "cache": str(tmp_path), "real": asked}
        return int(Evaluator(["recall"], digits, split="test", **settings).facts["real"])

    assert [real("same", 70), real("same", 5000), real("all", 70), real("90", 70)] == [
        *(70, 1000),
        *(1000, 90),
    ]
    with pytest.raises(UserError, match=r"metrics.real=1001: must be at most 1000, as the test"):
        real("1001", 70)
