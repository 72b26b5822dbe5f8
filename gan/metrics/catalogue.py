"""Every metric of this package, one object each.

This module imports no torch, so that configurations are checked and tables sorted quickly. The
functions below therefore import their mathematics when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gan.data import Data
    from gan.metrics.comparison import Comparison


class Direction(str, Enum):
    """The way in which a value gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> int:
        """1 if lower values are better, else -1: values times this sort best first."""
        return 1 if self is Direction.MINIMIZE else -1


MINIMIZE, MAXIMIZE = Direction


@dataclass(frozen=True)
class DataKind:
    """A kind of data that a metric fits."""

    description: str
    """The kind in words, as error messages show it."""
    includes: Callable[[Data], bool]
    """A function that tells whether a data set is of this kind."""


@dataclass(frozen=True)
class Metric:
    """A measure of how near generated samples are to the real ones."""

    name: str
    direction: Direction
    fits: DataKind
    compute: Callable[[Comparison], float | tuple[float, float]]
    """A function that returns the value, or the value and its standard error."""
    min_samples: int = 1
    """The least number of real samples, and of generated ones, that `compute` needs."""
    features: bool = False
    """A flag for metrics that compare features. The data decide which ones: LeNet's for grey
    images, Inception's for colour images. Points are their own features."""

    def values(self, comparison: Comparison) -> dict[str, float]:
        """Return the value as `{name: value}`, with `{name/se: error}` if there is a standard
        error."""
        result = self.compute(comparison)
        if isinstance(result, tuple):
            value, standard_error = result
            return {self.name: value, f"{self.name}/se": standard_error}
        return {self.name: float(result)}


ANY_DATA = DataKind("any data", lambda data: True)
GREY_IMAGES = DataKind("grey images", lambda data: len(data.shape) == 3 and data.shape[0] == 1)
COLOUR_IMAGES = DataKind("colour images", lambda data: len(data.shape) == 3 and data.shape[0] == 3)
CLASSIFIED_GREY_IMAGES = DataKind(
    "grey images whose classes a classifier of this package knows",
    lambda data: GREY_IMAGES.includes(data) and data.classifier is not None,
)
MIXTURES = DataKind("a mixture of points", lambda data: data.modes is not None)
KNOWN_CLASSES = DataKind(
    "a mixture, or images whose classes a classifier of this package knows",
    lambda data: data.modes is not None or data.classifier is not None,
)


def _sliced_wasserstein(comparison: Comparison) -> float:
    from gan.metrics.sliced_wasserstein import sliced_wasserstein

    real, fake = comparison.real.vectors, comparison.fake.vectors
    count = min(len(real), len(fake))
    return sliced_wasserstein(real[:count], fake[:count])


def _fid(comparison: Comparison) -> float:
    from gan.metrics.frechet import gaussian_distance

    return gaussian_distance(comparison.real.moments, comparison.fake.moments)


def _kid(comparison: Comparison) -> tuple[float, float]:
    from gan.metrics.kernel import kernel_distance

    return kernel_distance(comparison.real.features, comparison.fake.features)


def _classifier_score(comparison: Comparison) -> float:
    from gan.metrics.classes import classifier_score

    return classifier_score(comparison.class_probabilities[0])


def _mode_count(comparison: Comparison) -> float:
    from gan.metrics.classes import mode_count

    labels, high_quality = comparison.classes
    return mode_count(labels[high_quality], comparison.data.classes)


def _reverse_kl(comparison: Comparison) -> float:
    from gan.metrics.classes import reverse_kl

    return reverse_kl(comparison.classes.labels, comparison.data.frequencies())


def _high_quality(comparison: Comparison) -> float:
    return float(comparison.classes.high_quality.double().mean())


_METRICS = (
    Metric("sliced_wasserstein", MINIMIZE, ANY_DATA, _sliced_wasserstein),
    # A covariance needs more samples than features: 128 of LeNet, 2,048 of Inception.
    Metric("lenet_fid", MINIMIZE, GREY_IMAGES, _fid, min_samples=129, features=True),
    Metric("lenet_kid", MINIMIZE, GREY_IMAGES, _kid, min_samples=4, features=True),
    Metric("inception_fid", MINIMIZE, COLOUR_IMAGES, _fid, min_samples=2049, features=True),
    Metric("inception_kid", MINIMIZE, COLOUR_IMAGES, _kid, min_samples=4, features=True),
    # A sample and its 5 nearest neighbours.
    Metric(
        "precision", MAXIMIZE, ANY_DATA, lambda c: c.prdc.precision, min_samples=6, features=True
    ),
    Metric("recall", MAXIMIZE, ANY_DATA, lambda c: c.prdc.recall, min_samples=6, features=True),
    Metric("density", MAXIMIZE, ANY_DATA, lambda c: c.prdc.density, min_samples=6, features=True),
    Metric("coverage", MAXIMIZE, ANY_DATA, lambda c: c.prdc.coverage, min_samples=6, features=True),
    Metric("classifier_score", MAXIMIZE, CLASSIFIED_GREY_IMAGES, _classifier_score),
    Metric("modes", MAXIMIZE, KNOWN_CLASSES, _mode_count),
    Metric("reverse_kl", MINIMIZE, KNOWN_CLASSES, _reverse_kl),
    Metric("high_quality", MAXIMIZE, MIXTURES, _high_quality),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
"""Every metric by its name. Tables show their columns in this order."""


def direction(value_name: str) -> Direction:
    """Return the direction of a metric or of another value that is logged.

    Args:
        value_name: a name such as "recall", or a table's column such as "best/recall", whose last
            part counts. Values that are no metric, such as losses, are minimized.
    """
    metric = METRICS.get(value_name.rpartition("/")[2])
    return metric.direction if metric else Direction.MINIMIZE


def sign(value_name: str) -> int:
    """Return `direction(value_name).sign`."""
    return direction(value_name).sign


STEP_STATISTICS = (
    "loss/discriminator",
    "loss/generator",
    "prob/real",
    "prob/fake",
    "logit/real",
    "logit/fake",
)
"""Statistics of one training step: means over the batch. prob/real is D(x), prob/fake D(G(z))."""

LOSSES_AND_PROBABILITIES = ("loss/discriminator", "loss/generator", "prob/real", "prob/fake")
"""The statistics that people look at first."""

TRAINING_VALUES = (
    *STEP_STATISTICS,
    "grad_norm/discriminator",
    "grad_norm/generator",
    "lr/discriminator",
    "lr/generator",
)
"""Values that every run logs while it trains."""

OBJECTIVES = (*METRICS, *TRAINING_VALUES)
"""Values that a sweep can improve."""
