"""Diversity of a few samples, cheap enough to be measured while a run trains."""

import math

import torch
from torch import Tensor

from gan.data import Data, to_float
from gan.metrics import lenet
from gan.metrics.classes import nearest_modes

SAMPLES = 64
"""The number of samples that are looked at; fewer if there are fewer real ones."""
MAX_CLASSES = 25
"""The most classes whose shares are told one by one."""
CLEAR = 0.9
"""The probability that the classifier must give to a class."""
REACH = 0.9
"""The share of the real samples that lie near another one. A generated one must lie as near."""


class Diversity:
    """The diversity of samples beside that of as many real ones, which stay the same."""

    def __init__(self, data: Data):
        """Look at the real samples."""
        size = data.real_size("train")
        self.count = SAMPLES if size is None else min(SAMPLES, size)
        """The number of samples to measure."""
        real, self.labels = data.real("train", self.count)
        """Classes of the real samples (count,)."""
        self._data, self._noun = data, _noun(data)
        # One real sample has no other one near it.
        several = self.count > 1
        self._real_distance, self._real_spread = (
            (_distance(real), _spread(real)) if several else (0.0, 0.0)
        )
        if self._noun and data.classifier:
            self._real_features = lenet.load(data.classifier).features(real)
            self._reach = float(_nearest(self._real_features).quantile(REACH))

    def __call__(self, fake: Tensor) -> dict[str, float]:
        """Return what a record says about raw samples (count, *shape).

        `samples/diversity` is about 1 for samples that are as diverse as the real ones, and 0 if
        all are the same. It is the geometric mean of two ratios to real samples: of the median
        distance to the nearest other sample, which is small if few shapes repeat, and of the
        standard deviation, which is small if all shapes are alike. It is missing where real
        samples repeat, and where there is one alone.
        `share/digit_7` is the share of the samples that are clearly of that class, for data whose
        classes are known and about equally frequent.
        """
        values = {}
        if self._real_distance:
            distance, spread = (
                _distance(fake) / self._real_distance,
                _spread(fake) / self._real_spread,
            )
            values["samples/diversity"] = math.sqrt(distance * spread)
        if self._noun:
            counts = torch.bincount(self._clear_labels(fake), minlength=self._data.classes)
            for number, share in enumerate((counts / len(fake)).tolist()):
                values[f"share/{self._noun}_{number}"] = share
        return values

    def _clear_labels(self, fake: Tensor) -> Tensor:
        """Return the classes of the samples whose class is clear (n,)."""
        if self._data.modes is not None:
            labels, is_near = nearest_modes(fake, *self._data.modes)
            return labels[is_near]
        assert self._data.classifier
        classifier = lenet.load(self._data.classifier)
        features = classifier.features(fake)
        sure, labels = classifier.classify(features).max(1)
        # The classifier is sure that noise is an 8, but noise is far from the features of an 8.
        distance = torch.cdist(features, self._real_features).min(1).values
        return labels[(sure > CLEAR) & (distance <= self._reach)]


def _noun(data: Data) -> str:
    """Return the name for a class of the data; an empty text if shares of classes say nothing."""
    is_even = data.classes <= MAX_CLASSES and data.frequencies().min() > 0.5 / data.classes
    if not is_even or data.classes == 1:
        return ""
    if data.modes is not None:
        return "mode"
    if data.classifier is None or data.shape[0] != 1:
        return ""
    return "digit" if data.classifier == "mnist" else "class"


def _distance(raw: Tensor) -> float:
    """Return the median distance of a raw sample to the nearest other one."""
    return float(_nearest(_vectors(raw)).median())


def _nearest(vectors: Tensor) -> Tensor:
    """Return the distance of each vector (n, d) to the nearest other one (n,)."""
    # Matrix products would give equal vectors a distance.
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).min(1).values


def _spread(raw: Tensor) -> float:
    """Return the standard deviation of raw samples around their mean, over all dimensions."""
    return float(_vectors(raw).var(0).sum().sqrt())


def _vectors(raw: Tensor) -> Tensor:
    return (to_float(raw) if raw.dtype == torch.uint8 else raw).flatten(1)
