"""The metrics of a configuration: which real samples, which features, and what is kept of them."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gan.data import Data, ImageData, mnist5k, ring8
from gan.errors import UserError
from gan.metrics import lenet
from gan.metrics.classes import classifier_score
from gan.metrics.frechet import frechet_distance
from gan.metrics.kernel import kernel_distance
from gan.metrics.measures import Measures
from gan.metrics.neighbours import prdc
from gan.metrics.sliced_wasserstein import sliced_wasserstein

LENET = ["lenet_fid", "lenet_kid", "precision", "recall", "density", "coverage"]


@pytest.fixture(scope="module")
def digits(data_root: Path) -> ImageData:
    return mnist5k(root=str(data_root))


@pytest.fixture
def fakes(digits: ImageData) -> Tensor:
    """200 training images, darkened."""
    return digits.images[::20] // 2


@pytest.fixture
def measures(digits: ImageData, tmp_path: Path) -> Callable[..., Measures]:
    def make(names: list[str], data: Data = digits, **settings: object) -> Measures:
        chosen = {"split": "test", "samples": 200, "cache": str(tmp_path / "cache")} | settings
        return Measures(names, data, **chosen)  # type: ignore[arg-type]

    return make


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images the classifier was asked for, at each call."""
    counts: list[int] = []
    plain = lenet.LeNet.features

    def counting(self: lenet.LeNet, images: Tensor) -> Tensor:
        counts.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(lenet.LeNet, "features", counting)
    return counts


def test_values_are_those_of_the_functions(
    measures: Callable[..., Measures], digits: ImageData, fakes: Tensor
) -> None:
    names = [*LENET, "sliced_wasserstein", "classifier_score"]
    values = measures(names)(fakes)
    real, _ = digits.real("test", 200)
    network = lenet.load("mnist")
    features = network.features(real), network.features(fakes)
    distance = kernel_distance(*features)
    assert values == {
        "lenet_fid": frechet_distance(*features),
        "lenet_kid": distance.value,
        "lenet_kid/se": distance.error,
        **prdc(*features)._asdict(),
        "sliced_wasserstein": sliced_wasserstein(
            *(images.flatten(1) / 127.5 - 1 for images in (real, fakes))
        ),
        "classifier_score": classifier_score(network.probabilities(fakes)),
    }


def test_what_is_not_asked_for_is_not_told(
    measures: Callable[..., Measures], fakes: Tensor, extracted: list[int]
) -> None:
    assert set(measures(["lenet_kid"])(fakes)) == {"lenet_kid", "lenet_kid/se"}
    assert set(measures(["recall"])(fakes)) == {"recall"}
    extracted.clear()
    assert set(measures(["sliced_wasserstein"])(fakes)) == {"sliced_wasserstein"}
    assert extracted == []


def test_features_of_real_images_are_taken_once(
    measures: Callable[..., Measures], fakes: Tensor, extracted: list[int], tmp_path: Path
) -> None:
    measure = measures(LENET)
    first = measure(fakes)
    (path,) = (tmp_path / "cache/features").iterdir()
    kept = path.read_bytes()
    assert extracted == [200, 200]
    assert measure(fakes) == first
    assert measures(LENET)(fakes) == first
    assert extracted == [200, 200, 200, 200], "those of generated images alone"
    assert path.read_bytes() == kept
    assert list(path.parent.iterdir()) == [path], "nothing half-written is left"

    measures(LENET, split="train")(fakes)
    measures(LENET, samples=150)(fakes)
    assert len(list(path.parent.iterdir())) == 3, "other images, other features"


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "folder"])
def test_a_damaged_file_of_features_is_ignored(
    measures: Callable[..., Measures], fakes: Tensor, tmp_path: Path, damage: str
) -> None:
    expected = measures(LENET)(fakes)
    (path,) = (tmp_path / "cache/features").iterdir()
    whole = load_file(path)["features"].clone()
    if damage == "other":
        save_file({"something": whole}, path)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
        (path / "file").touch()
    else:
        path.write_bytes(path.read_bytes()[:1000] if damage == "cut" else b"")
    assert measures(LENET)(fakes) == expected
    if damage != "folder":
        assert torch.equal(load_file(path)["features"], whole), "it is put right"


def test_a_cache_that_cannot_be_written_does_no_harm(
    measures: Callable[..., Measures], fakes: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    expected = measures(LENET)(fakes)
    assert measures(LENET, cache=str(tmp_path / "file"))(fakes) == expected


def test_a_full_disk_does_no_harm(
    measures: Callable[..., Measures],
    fakes: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """safetensors has an error of its own for it."""
    from safetensors import SafetensorError

    def full(*args: object) -> None:
        raise SafetensorError("No space left on device")

    monkeypatch.setattr("gan.metrics.measures.save_file", full)
    assert set(LENET) < set(measures(LENET)(fakes))
    assert list((tmp_path / "cache/features").iterdir()) == []


def test_real_samples_are_limited_by_their_split(
    measures: Callable[..., Measures], digits: ImageData, fakes: Tensor
) -> None:
    assert measures(["recall"]).facts["real"] == 200
    facts = measures(["recall"], samples=3000).facts
    assert facts == {
        "samples": 3000,
        "real": 1000,
        "split": "test",
        "features": lenet.load("mnist").facts,
    }
    assert measures(["recall"], samples=9999, split="train").facts["real"] == 4000
    assert measures(["sliced_wasserstein"], samples=2000)(digits.images[:2000])
    assert measures(["modes"], ring8(), samples=5000).facts["real"] == 5000


def test_labels_are_as_frequent_as_those_of_real_samples(
    measures: Callable[..., Measures], digits: ImageData
) -> None:
    uneven = ImageData(
        digits.images,
        digits.labels,
        digits.test_images[:40],
        torch.tensor([3] * 30 + [7] * 10),
        classes=10,
        classifier="mnist",
    )
    labels = measures(["modes"], uneven, samples=100).like_real(100)
    assert labels.shape == (100,)
    counts = torch.bincount(labels, minlength=10).tolist()
    assert sum(counts) == counts[3] + counts[7]
    assert 70 <= counts[3] <= 80
    assert torch.equal(measures(["modes"], uneven, samples=100).like_real(40), labels[:40])


def test_digits_stacked_in_channels_are_classes_together(
    measures: Callable[..., Measures], digits: ImageData
) -> None:
    images, labels = digits.test_images, digits.test_labels
    right = lenet.load("mnist").probabilities(images).argmax(1) == labels
    of_class = [images[right & (labels == digit)][0] for digit in range(10)]
    classes = torch.tensor([0, 7, 70, 700, 123, 321, 999, 999])
    stacked = torch.stack([torch.cat([of_class[int(d)] for d in f"{c:03}"]) for c in classes])
    data = ImageData(stacked, classes, stacked, classes, classes=1000, classifier="mnist")
    measure = measures(["modes", "reverse_kl"], data, samples=8)
    assert measure(stacked) == {"modes": 7, "reverse_kl": pytest.approx(0)}
    # 0.75 of the first of them, and 0.25 of the second, where 1/8 of each are real.
    uneven = stacked[[0, 0, 0, 1]]
    expected = 0.75 * math.log(0.75 * 8) + 0.25 * math.log(0.25 * 8)
    assert measure(uneven) == {"modes": 2, "reverse_kl": pytest.approx(expected)}


def test_points_of_a_mixture(measures: Callable[..., Measures], tmp_path: Path) -> None:
    names = ["modes", "high_quality", "reverse_kl", "precision", "coverage"]
    ring = ring8()
    points, labels = ring.draw(400, seed=1)
    values = measures(names, ring, samples=400)(points)
    assert values["modes"] == 8
    assert values["high_quality"] > 0.97
    assert values["reverse_kl"] < 0.05
    assert values["coverage"] > 0.9
    half = measures(names, ring, samples=400)(points[labels < 4])
    assert half["modes"] == 4
    assert half["reverse_kl"] == pytest.approx(math.log(2), abs=0.1)
    assert half["coverage"] < 0.6
    assert not (tmp_path / "cache").exists(), "points are their own features"


@pytest.mark.parametrize(
    ("name", "samples", "needed"),
    [("lenet_fid", 128, 129), ("lenet_kid", 3, 4), ("precision", 5, 6), ("coverage", 5, 6)],
)
def test_too_few_samples_are_refused_at_once(
    measures: Callable[..., Measures], fakes: Tensor, name: str, samples: int, needed: int
) -> None:
    expected = f"metrics.samples={samples}: {name} needs {needed} samples at least"
    with pytest.raises(UserError, match=expected):
        measures([name], samples=samples)
    assert name in measures([name], samples=needed)(fakes[:needed])
