"""The metrics of a configuration: the real samples, the features and the cache of features."""

import errno
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan.config.compose import compose
from gan.data import Data, ImageData, mnist5k, ring8
from gan.errors import UserError
from gan.metrics import lenet
from gan.metrics.catalogue import METRICS
from gan.metrics.classes import classifier_score
from gan.metrics.evaluator import Evaluator
from gan.metrics.frechet import frechet_distance
from gan.metrics.kernel import kernel_distance
from gan.metrics.neighbours import prdc
from gan.metrics.sliced_wasserstein import sliced_wasserstein

LENET = ["lenet_fid", "lenet_kid", "precision", "recall", "density", "coverage"]


@pytest.fixture(scope="module")
def digits(data_root: Path) -> ImageData:
    return mnist5k(root=str(data_root))


@pytest.fixture
def fakes(digits: ImageData) -> Tensor:
    """Return 200 training images, darkened."""
    return digits.images[::20] // 2


@pytest.fixture
def make_evaluator(digits: ImageData, tmp_path: Path) -> Callable[..., Evaluator]:
    def make(names: list[str], data: Data = digits, **changed: object) -> Evaluator:
        settings = {"split": "test", "samples": 200, "cache": str(tmp_path / "cache")} | changed
        return Evaluator(names, data, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of the numbers of images that the classifier read, one for each call."""
    counts: list[int] = []
    features = lenet.LeNet.features

    def count_images(self: lenet.LeNet, images: Tensor) -> Tensor:
        counts.append(len(images))
        return features(self, images)

    monkeypatch.setattr(lenet.LeNet, "features", count_images)
    return counts


def test_values_are_what_the_functions_return(
    make_evaluator: Callable[..., Evaluator], digits: ImageData, fakes: Tensor
) -> None:
    names = [*LENET, "sliced_wasserstein", "classifier_score"]
    values = make_evaluator(names)(fakes)
    real, _ = digits.real("test", 200)
    network = lenet.load("mnist")
    features = network.features(real), network.features(fakes)
    distance = kernel_distance(*features)
    assert values == {
        "lenet_fid": frechet_distance(*features),
        "lenet_kid": distance.value,
        "lenet_kid/se": distance.standard_error,
        **prdc(*features)._asdict(),
        "sliced_wasserstein": sliced_wasserstein(
            *(images.flatten(1) / 127.5 - 1 for images in (real, fakes))
        ),
        "classifier_score": classifier_score(network.probabilities(fakes)),
    }


def test_only_the_named_metrics_are_computed(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor, extracted: list[int]
) -> None:
    assert set(make_evaluator(["lenet_kid"])(fakes)) == {"lenet_kid", "lenet_kid/se"}
    assert set(make_evaluator(["recall"])(fakes)) == {"recall"}
    extracted.clear()
    assert set(make_evaluator(["sliced_wasserstein"])(fakes)) == {"sliced_wasserstein"}
    assert extracted == []


def test_values_come_in_the_order_of_their_names(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor
) -> None:
    for group in ("default", "fast", "full"):
        names = compose(f"metrics={group}").metrics.names
        values = make_evaluator(names)(fakes)
        assert [name for name in values if not name.endswith("/se")] == names
    names = compose("metrics=points", "data=ring8").metrics.names
    assert list(make_evaluator(names, ring8())(ring8().draw(200, seed=1)[0])) == names


def test_features_of_real_images_are_computed_once(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor, extracted: list[int], tmp_path: Path
) -> None:
    evaluate = make_evaluator(LENET)
    first = evaluate(fakes)
    (path,) = (tmp_path / "cache/features").iterdir()
    content = path.read_bytes()
    assert extracted == [200, 200]
    assert evaluate(fakes) == first
    assert make_evaluator(LENET)(fakes) == first
    assert extracted == [200, 200, 200, 200], "features of generated images only"
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path], "no half-written file is left"

    make_evaluator(LENET, split="train")(fakes)
    make_evaluator(LENET, samples=150)(fakes)
    assert len(list(path.parent.iterdir())) == 3, "other images have other features"


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "altered", "folder"])
def test_damaged_file_of_features_is_replaced(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor, tmp_path: Path, damage: str
) -> None:
    expected = make_evaluator(LENET)(fakes)
    (path,) = (tmp_path / "cache/features").iterdir()
    with np.load(path) as stored:
        whole = dict(stored)
    if damage == "other":
        np.savez(path, something=whole["features"])
    elif damage == "altered":
        np.savez(path, **whole | {"features": whole["features"] + 1})
    elif damage == "folder":
        path.unlink()
        path.mkdir()
        (path / "file").touch()
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"")
    assert make_evaluator(LENET)(fakes) == expected
    if damage != "folder":
        with np.load(path) as stored:
            assert np.array_equal(stored["features"], whole["features"]), "it is not written again"


def test_cache_that_cannot_be_written_does_no_harm(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    expected = make_evaluator(LENET)(fakes)
    assert make_evaluator(LENET, cache=str(tmp_path / "file"))(fakes) == expected


def test_full_disk_does_no_harm(
    make_evaluator: Callable[..., Evaluator],
    fakes: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raise_full(*args: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gan.data.cache.np.savez", raise_full)
    assert set(LENET) < set(make_evaluator(LENET)(fakes))
    assert list((tmp_path / "cache/features").iterdir()) == []


def test_number_of_real_samples_is_limited_by_the_split(
    make_evaluator: Callable[..., Evaluator], digits: ImageData, fakes: Tensor
) -> None:
    assert make_evaluator(["recall"]).facts["real"] == 200
    facts = make_evaluator(["recall"], samples=3000).facts
    assert len(facts.pop("real_hash")) == 12
    assert facts == {
        "samples": 3000,
        "real": 1000,
        "split": "test",
        "features": lenet.load("mnist").facts,
    }
    assert make_evaluator(["recall"], samples=9999, split="train").facts["real"] == 4000
    assert make_evaluator(["sliced_wasserstein"], samples=2000)(digits.images[:2000])
    assert make_evaluator(["modes"], ring8(), samples=5000).facts["real"] == 5000


def test_labels_are_as_frequent_as_the_real_labels(
    make_evaluator: Callable[..., Evaluator], digits: ImageData
) -> None:
    uneven = ImageData(
        digits.images,
        digits.labels,
        digits.test_images[:40],
        torch.tensor([3] * 30 + [7] * 10),
        classes=10,
        classifier="mnist",
    )
    labels = make_evaluator(["modes"], uneven, samples=100).labels_like_real(100)
    assert labels.shape == (100,)
    counts = torch.bincount(labels, minlength=10).tolist()
    assert sum(counts) == counts[3] + counts[7]
    assert 70 <= counts[3] <= 80
    assert torch.equal(
        make_evaluator(["modes"], uneven, samples=100).labels_like_real(40), labels[:40]
    )


def test_channels_of_a_stacked_image_make_one_class(
    make_evaluator: Callable[..., Evaluator], digits: ImageData
) -> None:
    images, labels = digits.test_images, digits.test_labels
    recognized = lenet.load("mnist").probabilities(images).argmax(1) == labels
    images_of_digits = [images[recognized & (labels == digit)][0] for digit in range(10)]
    classes = torch.arange(1000)
    stacked = torch.stack(
        [torch.cat([images_of_digits[int(d)] for d in f"{c:03}"]) for c in classes]
    )
    data = ImageData(stacked, classes, stacked, classes, classes=1000, classifier="mnist")
    evaluate = make_evaluator(["modes", "reverse_kl"], data, samples=1000)
    assert evaluate(stacked) == {"modes": 1000, "reverse_kl": pytest.approx(0)}
    # Three quarters are of the first class and one quarter of the second; 1/1000 of each is real.
    uneven = stacked[[123, 123, 123, 321]]
    expected = 0.75 * math.log(0.75 * 1000) + 0.25 * math.log(0.25 * 1000)
    assert evaluate(uneven) == {"modes": 2, "reverse_kl": pytest.approx(expected)}
    # A sample of a class that is never real would make the divergence infinite.
    few = ImageData(stacked[:7], classes[:7], stacked[:7], classes[:7], 1000, "mnist")
    assert METRICS["modes"].fits.includes(few)
    assert not METRICS["reverse_kl"].fits.includes(few)
    digits_0_to_4 = ImageData(images[:9], labels[:9] % 5, images[:9], labels[:9] % 5, 5, "mnist")
    assert not METRICS["modes"].fits.includes(digits_0_to_4)


def test_missing_modes_of_a_mixture_are_noticed(
    make_evaluator: Callable[..., Evaluator], tmp_path: Path
) -> None:
    names = ["modes", "high_quality", "reverse_kl", "precision", "coverage"]
    ring = ring8()
    points, labels = ring.draw(400, seed=1)
    values = make_evaluator(names, ring, samples=400)(points)
    assert values["modes"] == 8
    assert values["high_quality"] > 0.97
    assert values["reverse_kl"] < 0.05
    assert values["coverage"] > 0.9
    half = make_evaluator(names, ring, samples=400)(points[labels < 4])
    assert half["modes"] == 4
    assert half["reverse_kl"] == pytest.approx(math.log(2), abs=0.1)
    assert half["coverage"] < 0.6
    assert not (tmp_path / "cache").exists(), "points are their own features"


@pytest.mark.parametrize(
    ("name", "samples", "needed"),
    [("lenet_fid", 128, 129), ("lenet_kid", 3, 4), ("precision", 5, 6), ("coverage", 5, 6)],
)
def test_too_few_samples_are_refused_before_training(
    make_evaluator: Callable[..., Evaluator], fakes: Tensor, name: str, samples: int, needed: int
) -> None:
    expected = f"metrics.samples={samples}: {name} needs {needed} samples at least"
    with pytest.raises(UserError, match=expected):
        make_evaluator([name], samples=samples)
    assert name in make_evaluator([name], samples=needed)(fakes[:needed])


def test_facts_tell_real_samples_and_classifiers_apart(
    make_evaluator: Callable[..., Evaluator], digits: ImageData
) -> None:
    facts = make_evaluator(["modes"], samples=300).facts
    assert facts["classifier"] == lenet.load("mnist").facts
    inverted = replace(digits, test_samples=255 - digits.test_samples)
    assert make_evaluator(["modes"], inverted, samples=300).facts["real_hash"] != facts["real_hash"]
    assert make_evaluator(["modes"], samples=300).facts == facts
    # The last digits of points depend on the processor; their configuration says all about them.
    assert "real_hash" not in make_evaluator(["modes"], ring8(), samples=300).facts
