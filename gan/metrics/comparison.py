"""Real and generated samples side by side, and the metrics that compare them."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.arithmetic import exact_matmul
from gan.data import Data, to_float
from gan.data.cache import Arrays, cached_arrays
from gan.errors import UserError
from gan.metrics import lenet
from gan.metrics.catalogue import METRICS, Metric
from gan.metrics.classes import Classes, nearest_modes
from gan.metrics.features import FeatureExtractor, feature_extractor
from gan.metrics.frechet import Moments, moments
from gan.metrics.inception import Inception
from gan.metrics.neighbours import PRDC, prdc


class Samples:
    """Raw samples of a data set with their features, which are computed when first needed."""

    def __init__(
        self, raw: Tensor, extract: Callable[[], FeatureExtractor], cache: Path | None = None
    ):
        """Compute nothing yet.

        Args:
            raw: uint8 images or float32 values, (n, *shape).
            extract: returns the extractor of their features.
            cache: a folder that keeps features for later runs; created when needed.
        """
        self.raw, self._extract, self._cache = raw, extract, cache

    @property
    def vectors(self) -> Tensor:
        """Pixels from -1 to 1, or the values of other samples: float32 (n, dimensions)."""
        return (to_float(self.raw) if self.raw.dtype == torch.uint8 else self.raw).flatten(1)

    @cached_property
    def features(self) -> Tensor:
        """Features, float64 (n, width)."""
        extractor = self._extract()
        if self._cache:
            return _load_or_extract(extractor, self.raw, self._cache)
        return extractor.features(self.raw)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        return moments(self.features)


class Comparison:
    """Generated samples beside the real ones of a data set: all that a metric may read.

    Every part is computed when the first metric asks for it, and all metrics share it.
    """

    def __init__(
        self, data: Data, real: Samples, fake: Samples, extract: Callable[[], FeatureExtractor]
    ):
        """Compute nothing yet.

        Args:
            extract: returns the extractor of the features of both.
        """
        self.data, self.real, self.fake, self._extract = data, real, fake, extract

    @cached_property
    def prdc(self) -> PRDC:
        """Precision, recall, density and coverage."""
        return prdc(self.real.features, self.fake.features)

    @cached_property
    def class_probabilities(self) -> list[Tensor]:
        """Probabilities of the classifier's ten classes for each channel of the generated images,
        (n, 10) each. A channel of a stacked image is an image of its own."""
        assert self.data.classifier
        classifier = lenet.load(self.data.classifier)
        if self.data.shape[0] == 1 and classifier is self._extract():
            return [classifier.classify(self.fake.features)]
        return [classifier.probabilities(channel) for channel in self.fake.raw.split(1, dim=1)]

    def all_real(self, split: str) -> Tensor:
        """Return the vectors of all real samples of a split, float32 (n, dimensions)."""
        count = self.data.real_size(split)
        assert count is not None
        return Samples(self.data.real(split, count)[0], self._extract).vectors

    @property
    def inception_probabilities(self) -> Tensor:
        """Probabilities of Inception's classes for the generated images, float64 (n, 1008)."""
        network = self._extract()
        assert isinstance(network, Inception)
        return network.classify(self.fake.features)

    @cached_property
    def classes(self) -> Classes:
        """Classes of the generated samples: the modes nearest to points, or the classifier's
        answers, one decimal digit for each channel of an image."""
        fake = self.fake.raw
        if self.data.modes is not None:
            return nearest_modes(fake, *self.data.modes)
        labels = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)
        for probabilities in self.class_probabilities:
            labels = 10 * labels + probabilities.argmax(1)
        return Classes(labels, high_quality=torch.ones_like(labels, dtype=torch.bool))


class Evaluator:
    """The metrics of a configuration, against real samples that stay the same."""

    def __init__(
        self,
        names: Sequence[str],
        data: Data,
        *,
        split: str,
        samples: int,
        cache: str,
        real: str = "same",
        extractor: FeatureExtractor | None = None,
        protocol: str | None = None,
    ):
        """Load the real samples, and check that the metrics fit them.

        Args:
            names: metrics, by their names in `METRICS`.
            split: the split that real samples come from, "train" or "test".
            samples: the number of generated samples.
            cache: a folder that keeps features of real images; created when needed.
            real: the number of real samples, or "all" of the split, or "same": as many as there
                are generated ones, or all that the split has.
            extractor: None takes `feature_extractor`.
            protocol: the name of the protocol that all of this is, for the record.

        Raises:
            UserError: a metric does not fit the data or the features, there are too few samples
                for it, or its features cannot be had.
        """
        self._data, self._metrics = data, [METRICS[name] for name in names]
        self._extract: Callable[[], FeatureExtractor] = partial(feature_extractor, data)
        if extractor is not None:
            self._extract = lambda: extractor
        try:
            for metric in self._metrics:
                _check_fit(metric, data)
            count = _real_count(data, split, samples, real)
            real_samples, self._labels = data.real(split, count)
            self.facts: dict[str, Any] = {"samples": samples, "real": count, "split": split}
            """Facts that the values depend on: numbers of samples, split, the real samples
            themselves, the networks and the protocol."""
            if data.real_size(split) is not None:
                # Points of a mixture have no hash: their last digits depend on the processor.
                digest = hashlib.sha256(real_samples.cpu().contiguous().numpy().tobytes())
                self.facts["real_hash"] = digest.hexdigest()[:12]
            if any(metric.features for metric in self._metrics):
                self.facts["features"] = dict(self._extract().facts)
            if data.classifier and any(metric.classes for metric in self._metrics):
                self.facts["classifier"] = lenet.load(data.classifier).facts
            for metric in self._metrics:
                self._check_samples(metric)
        except UserError as error:
            if protocol is None:
                raise
            raise UserError(f"protocol={protocol}: does not fit here; {error}") from error
        if protocol is not None:
            self.facts["protocol"] = protocol
        # Samples that are no images are their own features: there is nothing to keep.
        folder = Path(cache).expanduser() if len(data.shape) == 3 else None
        self._real = Samples(real_samples, self._extract, folder)

    def _check_samples(self, metric: Metric) -> None:
        """Check that a metric has its features, and samples enough.

        Raises:
            UserError: it has not.
        """
        needed = metric.min_samples
        if metric.features:
            extractor = self._extract()
            name = str(extractor.facts.get("name"))
            if not name.startswith(metric.network):
                network = metric.network.partition("-")[0]
                raise UserError(
                    f"metrics.names: {metric.name} compares features of {network}, and these are "
                    f"of {name}; choose features={network}, or a metric of any features, such as "
                    "fid, kid or precision"
                )
            needed = max(needed, extractor.width + 1) if metric.covariance else needed
        count, samples = self.facts["real"], self.facts["samples"]
        if min(count, samples) < needed:
            raise UserError(
                f"metrics.samples={samples}: {metric.name} needs {needed} samples at least, both "
                f"generated and real; there are {count} real ones"
            )

    def labels_like_real(self, count: int) -> Tensor:
        """Return labels (count,) that are as frequent as those of the real samples."""
        return self._labels[torch.arange(count, device=self._labels.device) % len(self._labels)]

    def __call__(
        self, fake: Tensor, on_metric: Callable[[str], None] = lambda name: None
    ) -> dict[str, float]:
        """Return the metrics of raw generated samples (n, *shape), in the order of their names.

        KID comes with its standard error, as `NAME/se`.

        Args:
            on_metric: called with the name of each metric before it is computed.
        """
        generated = Samples(fake, self._extract)
        comparison = Comparison(self._data, self._real, generated, self._extract)
        values: dict[str, float] = {}
        with exact_matmul():
            for metric in self._metrics:
                on_metric(metric.name)
                values |= metric.values(comparison)
        return values


def _real_count(data: Data, split: str, samples: int, real: str) -> int:
    """Return the number of real samples to compare with; see `Evaluator`.

    Raises:
        UserError: the split has fewer, or has no limit.
    """
    available = data.real_size(split)
    if real == "same":
        return samples if available is None else min(samples, available)
    if real == "all":
        if available is None:
            raise UserError("metrics.real=all: these data are drawn without end; give a number")
        return available
    if available is not None and int(real) > available:
        raise UserError(
            f"metrics.real={real}: must be at most {available}, as the {split} split of these data "
            "has no more"
        )
    return int(real)


def _check_fit(metric: Metric, data: Data) -> None:
    """Check that a metric fits the data.

    Raises:
        UserError: the metric does not fit the data.
    """
    if not metric.fits.includes(data):
        images = len(data.shape) == 3
        others = "points" if data.shape == (2,) else f"samples of shape {data.shape}"
        kind = f"images of {data.shape[0]} channels" if images else others
        allowed = ", ".join(name for name in METRICS if METRICS[name].fits.includes(data))
        raise UserError(
            f"metrics.names: {metric.name} is for {metric.fits.description}, and these data are "
            f"{kind} with {data.classes} classes; they allow {allowed}"
        )


def _load_or_extract(extractor: FeatureExtractor, images: Tensor, folder: Path) -> Tensor:
    """Return features from the file that an earlier call left in the folder, or compute them and
    leave that file. A file that is damaged or cannot be written does no harm."""
    # Features depend on threads and library by rounding, and no result may depend on the cache.
    how = (extractor.facts, torch.__version__, torch.get_num_threads(), images.device.type)
    digest = hashlib.sha256(repr((how, tuple(images.shape))).encode())
    digest.update(images.cpu().numpy().tobytes())
    key = digest.hexdigest()

    def make() -> Arrays:
        return {"features": extractor.features(images).cpu().numpy()}

    stored = cached_arrays(folder / "features" / f"{key[:32]}.npz", key, make)
    return torch.from_numpy(stored["features"]).to(images.device)
