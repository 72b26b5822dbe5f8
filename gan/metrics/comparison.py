"""Real and generated samples side by side, with all that a metric may read of them."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gan.data import Data, to_float
from gan.data.cache import Arrays, cached_arrays
from gan.metrics import lenet
from gan.metrics.classes import Classes, nearest_modes
from gan.metrics.features import FeatureExtractor
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
