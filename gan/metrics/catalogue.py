"""Every metric, one object each.

This module imports no torch, so that configurations are checked and tables sorted quickly. The
functions below therefore import their mathematics when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from gan.errors import UserError, first_line

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

    @property
    def adjective(self) -> str:
        """The better values in a word, "lower" or "higher"."""
        return "lower" if self is Direction.MINIMIZE else "higher"


MINIMIZE, MAXIMIZE = Direction


@dataclass(frozen=True)
class DataKind:
    """A kind of data that a metric fits."""

    description: str
    """The kind in words, as error messages show it."""
    includes: Callable[[Data], bool]
    """A function that tells whether a data set is of this kind."""


@dataclass(frozen=True)
class Typical:
    """A value that is known, for others to be compared with: see conf/experiment/README.md."""

    data: str
    """The function that returns the data set, such as "mnist5k"."""
    samples: int
    """`metrics.samples` and `metrics.split` of the value. Others give other values."""
    split: str
    value: str
    source: str
    """The recipe in words, with the number of steps."""


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
    """A flag for metrics that compare features, those of the extractor that was chosen."""
    network: str = ""
    """The network whose features the metric is named after, as the extractor's name begins. Without
    one, any features will do."""
    covariance: bool = False
    """A flag for metrics of the features' covariance, which need more samples than features."""
    classes: bool = False
    """A flag for metrics that classify samples: points by the nearest mode, images by LeNet."""
    has_floor: bool = True
    """A flag for metrics of which real training samples give the best value to be expected."""
    typical: tuple[Typical, ...] = ()
    """Values that are known. Where none is, a number says less than it seems to."""

    def values(self, comparison: Comparison) -> dict[str, float]:
        """Return the value as `{name: value}`, with `{name/se: error}` if there is a standard
        error."""
        result = self.compute(comparison)
        if isinstance(result, tuple):
            value, standard_error = map(float, result)
            return {self.name: value, f"{self.name}/se": standard_error}
        return {self.name: float(result)}


ANY_DATA = DataKind("any data", lambda data: True)
GREY_IMAGES = DataKind("grey images", lambda data: len(data.shape) == 3 and data.shape[0] == 1)
IMAGES = DataKind("images", lambda data: len(data.shape) == 3)
COLOUR_IMAGES = DataKind("colour images", lambda data: len(data.shape) == 3 and data.shape[0] == 3)
CLASSIFIED_GREY_IMAGES = DataKind(
    "grey images whose classes a classifier of this package knows",
    lambda data: GREY_IMAGES.includes(data) and data.classifier is not None,
)
HELD_OUT = DataKind(
    "data of which some samples are held out",
    lambda data: data.real_size("train") is not None and bool(data.real_size("test")),
)
MIXTURES = DataKind("a mixture of points", lambda data: data.modes is not None)
KNOWN_CLASSES = DataKind(
    "a mixture, or images whose classes a classifier of this package knows",
    lambda data: data.modes is not None or _has_known_classes(data),
)
REAL_CLASSES = DataKind(
    # A sample of a class that is never real would make a divergence infinite.
    "a mixture, or images of each class that a classifier of this package knows",
    lambda data: KNOWN_CLASSES.includes(data) and bool((data.frequencies() > 0).all()),
)


def _has_known_classes(data: Data) -> bool:
    """Return whether a classifier knows the classes of the data, ten for each channel."""
    return data.classifier is not None and data.classes == 10 ** data.shape[0]


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


def _inception_score(comparison: Comparison) -> tuple[float, float]:
    from gan.metrics.classes import inception_score

    return inception_score(comparison.inception_probabilities)


def _data_copying(comparison: Comparison) -> tuple[float, float]:
    from gan.metrics.copying import data_copying, nearest

    training, held_out = comparison.all_real("train"), comparison.all_real("test")
    fake = comparison.fake.vectors.to(training.device)
    return data_copying(*(nearest(x, training).distances[:, 0] for x in (fake, held_out)))


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
    from gan.arithmetic import in_double

    return float(in_double(comparison.classes.high_quality).mean())


_INCEPTION = "inception-v3-compat"
_ON_MNIST = partial(Typical, "mnist", 10000, "test")

_METRICS = (
    Metric(
        "sliced_wasserstein",
        MINIMIZE,
        ANY_DATA,
        _sliced_wasserstein,
        typical=(
            Typical("mnist5k", 2000, "train", "0.033", "the default recipe, median of five seeds"),
        ),
    ),
    # A covariance needs more samples than features: 128 of LeNet, 2,048 of Inception.
    Metric(
        "lenet_fid",
        MINIMIZE,
        GREY_IMAGES,
        _fid,
        min_samples=129,
        features=True,
        network="lenet",
        covariance=True,
        typical=(
            _ON_MNIST("3.3", "experiment=mlp"),
            _ON_MNIST("77 to 91", "experiment=lab"),
            _ON_MNIST("0.1", "real training images"),
        ),
    ),
    Metric("lenet_kid", MINIMIZE, GREY_IMAGES, _kid, min_samples=4, features=True, network="lenet"),
    Metric(
        "inception_fid",
        MINIMIZE,
        IMAGES,
        _fid,
        min_samples=2049,
        features=True,
        network=_INCEPTION,
        covariance=True,
    ),
    Metric(
        "inception_kid", MINIMIZE, IMAGES, _kid, min_samples=4, features=True, network=_INCEPTION
    ),
    Metric(
        "inception_score",
        MAXIMIZE,
        COLOUR_IMAGES,
        _inception_score,
        min_samples=10,
        features=True,
        network=_INCEPTION,
    ),
    Metric("fid", MINIMIZE, ANY_DATA, _fid, min_samples=2, features=True, covariance=True),
    Metric("kid", MINIMIZE, ANY_DATA, _kid, min_samples=4, features=True),
    # A sample and its 5 nearest neighbours.
    Metric(
        "precision", MAXIMIZE, ANY_DATA, lambda c: c.prdc.precision, min_samples=6, features=True
    ),
    Metric("recall", MAXIMIZE, ANY_DATA, lambda c: c.prdc.recall, min_samples=6, features=True),
    Metric("density", MAXIMIZE, ANY_DATA, lambda c: c.prdc.density, min_samples=6, features=True),
    Metric("coverage", MAXIMIZE, ANY_DATA, lambda c: c.prdc.coverage, min_samples=6, features=True),
    Metric("classifier_score", MAXIMIZE, CLASSIFIED_GREY_IMAGES, _classifier_score, classes=True),
    Metric("modes", MAXIMIZE, KNOWN_CLASSES, _mode_count, classes=True),
    Metric(
        "reverse_kl",
        MINIMIZE,
        REAL_CLASSES,
        _reverse_kl,
        classes=True,
        typical=(
            Typical("ring8", 10000, "test", "0.0004", "experiment=ring8"),
            Typical("stacked_mnist", 26000, "test", "0.076", "experiment=stacked_mnist"),
        ),
    ),
    Metric("high_quality", MAXIMIZE, MIXTURES, _high_quality),
    Metric("data_copying", MINIMIZE, HELD_OUT, _data_copying, has_floor=False),
)

ENTRY_POINTS = "gan.metrics"
"""The group of entry points by which installed packages add metrics, each under its name."""


OWN_NAMES = frozenset(metric.name for metric in _METRICS)
"""The names of the metrics of this package."""


class Catalogue(Mapping[str, Metric]):
    """Every metric by its name: those of this package, and those that installed packages add.

    A metric of another package is imported when it is first asked for.
    """

    def __init__(self) -> None:
        self._metrics = {metric.name: metric for metric in _METRICS}
        self._added = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._metrics, *self._added]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def that_fit(self, data: Data) -> list[str]:
        """Return the names of the metrics that fit some data, without those that cannot be used."""
        names = []
        for name in self:
            with suppress(UserError):
                names += [name] if self[name].fits.includes(data) else []
        return names

    def __contains__(self, name: object) -> bool:
        return name in self._metrics or name in self._added

    def __getitem__(self, name: str) -> Metric:
        """Return a metric.

        Raises:
            KeyError: there is no metric of that name.
            UserError: the metric of another package cannot be used.
        """
        if name in self._added and name in OWN_NAMES:
            entry = self._added[name]
            raise UserError(
                f"metric {name} ({entry.value}): has the name of a metric of this package; rename "
                "its entry point"
            )
        if name not in self._metrics:
            self._metrics[name] = _load(self._added[name])
        return self._metrics[name]


def _load(entry: EntryPoint) -> Metric:
    """Return the metric that an entry point names.

    Raises:
        UserError: its import fails, or it is no metric.
    """
    where = f"metric {entry.name} ({entry.value})"
    try:
        metric = entry.load()
    except Exception as error:
        raise UserError(f"{where}: cannot be imported, {first_line(error)}") from error
    if not isinstance(metric, Metric) or not isinstance(metric.direction, Direction):
        raise UserError(
            f"{where}: must be a gan.metrics.catalogue.Metric, with direction=Direction.MINIMIZE "
            "or Direction.MAXIMIZE"
        )
    if metric.name != entry.name:
        raise UserError(f"{where}: its name must be that of its entry point, not {metric.name}")
    return metric


METRICS = Catalogue()
"""Every metric by its name. Tables show their columns in this order."""


def logged_name(column: str) -> str:
    """Return the name under which a run logs what a table's column holds.

    So "best/recall" and "recall[samples=600]" give "recall".
    """
    return column.partition("[")[0].rpartition("/")[2]


def direction(value_name: str) -> Direction:
    """Return the direction of a metric or of another value that is logged.

    Args:
        value_name: a name such as "recall", or a table's column such as "best/recall" (see
            `logged_name`). Values that are no metric, such as losses, are minimized.
    """
    metric = METRICS.get(logged_name(value_name))
    return metric.direction if metric else Direction.MINIMIZE


def typical(metric: str, data: str, samples: int, split: str) -> list[Typical]:
    """Return known values of the metric on that data that were measured in the same way."""
    asked = data, samples, split
    return [o for o in METRICS[metric].typical if (o.data, o.samples, o.split) == asked]


def has_direction(value_name: str) -> bool:
    """Return whether it is known which way a metric or another value that is logged gets better.

    It is not for the metric of a package that is not installed.
    """
    return logged_name(value_name) in METRICS or value_name in OBJECTIVES


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
