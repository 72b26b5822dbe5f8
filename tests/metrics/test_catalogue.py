"""The catalogue of metrics: each of them can be computed, and the README describes it."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gan.data import Data, ImageData, digits, mnist5k, ring8
from gan.errors import UserError
from gan.metrics import inception, kernel, lenet, neighbours
from gan.metrics.catalogue import (
    ANY_DATA,
    METRICS,
    Catalogue,
    Direction,
    Metric,
    direction,
    sign,
    typical,
)
from gan.metrics.evaluator import Evaluator

README = Path(inception.__file__).with_name("README.md")


class FewPixels(inception.Inception):
    """A stand-in for Inception, whose weights are a large download."""

    def __init__(self) -> None:
        self.facts = {"name": "inception-v3-compat", "sha256": "0" * 12}
        self.width = 12

    def features(self, images: Tensor) -> Tensor:
        """Return the first 12 pixels, as float64 (n, 12)."""
        return images.flatten(1)[:, :12].double()

    def classify(self, features: Tensor) -> Tensor:
        """Return probabilities of 12 classes, float64 (n, 12)."""
        return (features / 255).softmax(1)


WITH_ERROR = ("kid", "lenet_kid", "inception_kid", "inception_score", "data_copying")
"""Metrics with a standard error."""


@pytest.fixture(scope="module")
def data_sets(data_root: Path) -> list[Data]:
    """Return data sets of all kinds; the last one looks like stacked MNIST."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4200, 3, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(4200) % 1000
    stacked = ImageData(*_halves(images, labels), classes=1000, classifier="mnist")
    return [digits(), mnist5k(root=str(data_root)), ring8(), stacked]


def _halves(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return images[::2], labels[::2], images[1::2], labels[1::2]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_fits_some_data_and_is_computed_from_its_least_samples(
    name: str, data_sets: list[Data], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception, "load", FewPixels)
    metric = METRICS[name]
    fitting = [data for data in data_sets if metric.fits.includes(data)]
    assert fitting
    for data in fitting:
        if name == "inception_fid" and (data.real_size("test") or 0) < metric.min_samples:
            continue
        extractor = FewPixels() if metric.network.startswith("inception") else None
        settings = {"split": "test", "cache": str(tmp_path), "extractor": extractor}
        count = max(metric.min_samples, 129 if name == "fid" else 0)
        evaluate = Evaluator([name], data, samples=count, **settings)  # type: ignore[arg-type]
        fake, _ = data.real("train", count)
        values = evaluate(fake)
        assert list(values) == ([name, f"{name}/se"] if name in WITH_ERROR else [name])
        assert all(type(value) is float and math.isfinite(value) for value in values.values())


def test_typical_values_are_of_the_same_data_samples_and_split() -> None:
    (known,) = typical("sliced_wasserstein", "mnist5k", 2000, "train")
    assert known.value == "0.033"
    assert typical("sliced_wasserstein", "mnist5k", 2000, "test") == []
    assert typical("sliced_wasserstein", "mnist5k", 100, "train") == []
    assert typical("sliced_wasserstein", "digits", 2000, "train") == []
    assert typical("recall", "mnist", 10000, "test") == [], "none is known"


def test_every_metric_has_a_direction() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.direction is direction(name) is direction(f"best/{name}")
        assert isinstance(metric.direction, Direction)
    assert (direction("lenet_fid"), sign("lenet_fid")) == (Direction.MINIMIZE, 1)
    assert (direction("recall"), sign("recall")) == (Direction.MAXIMIZE, -1)
    assert direction("loss/generator") is Direction.MINIMIZE


def test_least_samples_are_what_the_mathematics_needs() -> None:
    """The catalogue repeats these numbers, as it cannot import the modules that hold them."""
    assert METRICS["lenet_fid"].min_samples == lenet.WIDTH + 1
    assert METRICS["inception_fid"].min_samples == inception.WIDTH + 1
    for name in ("lenet_kid", "inception_kid", "kid"):
        assert METRICS[name].min_samples == kernel.MIN_SAMPLES
    for name in neighbours.PRDC._fields:
        assert METRICS[name].min_samples == neighbours.K + 1


def test_one_object_adds_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = Metric(
        "largest", Direction.MAXIMIZE, ANY_DATA, lambda comparison: float(comparison.fake.raw.max())
    )
    monkeypatch.setitem(METRICS._metrics, largest.name, largest)
    evaluate = Evaluator(["largest"], ring8(), split="train", samples=3, cache=str(tmp_path))
    assert evaluate(torch.tensor([[1.0, 2], [3, 4], [5, 0]])) == {"largest": 5}
    assert direction("largest") is Direction.MAXIMIZE


def test_value_and_error_may_be_tensors() -> None:
    both: Any = (torch.tensor(1.5), torch.tensor(0.5))
    metric = Metric("own", Direction.MINIMIZE, ANY_DATA, lambda _: both)
    values = metric.values(None)  # type: ignore[arg-type]
    assert json.dumps(values) == '{"own": 1.5, "own/se": 0.5}'


class Entry:
    """An entry point of a package that is installed."""

    def __init__(self, name: str, loaded: Any = None):
        self.name, self.value, self._loaded = name, f"somebody.{name}", loaded

    def load(self) -> Any:
        """Return what it names, or fail."""
        if self._loaded is None:
            raise ImportError("no module somebody")
        return self._loaded


def test_metric_of_another_package_with_one_of_our_names_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Metric("fid", Direction.MINIMIZE, ANY_DATA, lambda _: 1.0)
    monkeypatch.setattr("gan.metrics.catalogue.entry_points", lambda group: [Entry("fid", own)])
    with pytest.raises(
        UserError, match=r"metric fid \(somebody.fid\): has the name of a metric of"
    ):
        Catalogue()["fid"]


def test_metric_that_cannot_be_imported_hides_no_other_mistake(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gan.metrics.catalogue.entry_points", lambda group: [Entry("broken")])
    catalogue = Catalogue()
    monkeypatch.setattr("gan.metrics.evaluator.METRICS", catalogue)
    with pytest.raises(UserError, match=r"lenet_fid is for .*; they allow .*sliced_wasserstein"):
        Evaluator(["lenet_fid"], ring8(), split="train", samples=100, cache=str(tmp_path))
    with pytest.raises(UserError, match=r"there is no metric gone; is the package installed"):
        Evaluator(["gone"], ring8(), split="train", samples=100, cache=str(tmp_path))


def test_catalogue_imports_no_torch() -> None:
    code = "import sys, gan.metrics.catalogue; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme_table_agrees_with_the_catalogue() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\w+) \| ([^|]+) \| (\d+) \|$", README.read_text(), re.M)
    better = {Direction.MINIMIZE: "lower", Direction.MAXIMIZE: "higher"}
    assert rows == [
        (name, better[metric.direction], metric.fits.description, str(metric.min_samples))
        for name, metric in METRICS.items()
    ]
