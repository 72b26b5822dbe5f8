"""Vectors and series of numbers as data sets."""

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gan.data.arrays import Array, Split, split, to_numpy
from gan.data.base import Scaling
from gan.data.pictures import histogram, lines, scatter
from gan.data.tensors import TensorData
from gan.errors import UserError

SHOWN_POINTS = 2000
"""Number of real vectors in a plot."""


@dataclass(frozen=True, eq=False)
class FloatData(TensorData):
    """A data set of scaled float32 samples, as `gan.data.Data`."""

    scaling: Scaling = field(kw_only=True)
    """The way back to the data's own units."""

    @staticmethod
    def for_training(raw: Tensor) -> Tensor:
        """Return the samples as they are."""
        return raw


class VectorData(FloatData):
    """Vectors (d,) whose components have mean 0 and standard deviation 1."""

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return a plot of vectors (n, d) over real ones, in the data's own units.

        It shows the first two components that vary, or a histogram if there is only one;
        `columns` has no meaning here.
        """
        ends = torch.stack([self.samples.amin(0), self.samples.amax(0)])
        low, high = self.scaling.to_own_units(ends)
        varying = (low < high).nonzero().flatten().tolist()
        # Components that do not vary are shown if there are no others.
        shown = sorted((varying + [i for i in range(len(low)) if i not in varying])[:2])
        real = self.scaling.to_own_units(self.real("train", min(SHOWN_POINTS, self.size))[0])
        fake = self.scaling.to_own_units(samples)
        limits = [_widened(float(low[i]), float(high[i])) for i in shown]
        names = [f"component {i} of {len(low)}" for i in shown]
        if len(shown) == 1:
            return histogram(real[:, shown[0]], fake[:, shown[0]], limits[0], names[0])
        return scatter(real[:, shown], fake[:, shown], limits, names)

    def real_picture(self, count: int, columns: int | None) -> None:
        """Return None: `picture` shows real vectors itself."""


class SeriesData(FloatData):
    """Series (length,) or (channels, length), each channel in [-1, 1]."""

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return series as lines in a grid with so many in a row; all have the same axes."""
        series = samples.reshape(len(samples), -1, samples.shape[-1])
        ends = torch.tensor([-1.0, 1.0], dtype=torch.float64).expand(series.shape[1], 2)
        ranges = ends * self.scaling.scale.reshape(-1, 1) + self.scaling.offset.reshape(-1, 1)
        return lines(series, ranges.tolist(), columns)


def vector_data(
    vectors: Array,
    labels: Array | None = None,
    *,
    test: Array | None = None,
    test_labels: Array | None = None,
) -> VectorData:
    """Return a data set of vectors, such as the rows of a table.

    Each component is scaled to mean 0 and standard deviation 1 over the training vectors, so its
    values have no bounds: a generator should end in a linear layer, as that of `model=base` does.
    A component that is constant is only moved to 0. Metrics compare scaled vectors, so they do not
    depend on units. Pictures and `gan generate` show the data's own units.

    Args:
        vectors: numbers (n, d), all finite.
        labels: whole numbers or texts (n,), see `gan.data.arrays.split`. None makes one class.
        test: vectors to hold out. None holds out one in ten, always the same ones.
        test_labels: their labels.

    Raises:
        UserError: the arrays are not of that kind, or do not fit together.
    """
    parts = _finite_parts("vectors", vectors, labels, test, test_labels, (2,))
    train = parts.samples
    spread = train.std(axis=0)
    # Rounding gives a constant component a spread just above 0.
    varies = train.min(axis=0) < train.max(axis=0)
    scaling = _scaling(np.where(varies, spread, 1), np.where(varies, train.mean(axis=0), train[0]))
    digest, tensors = _digest("vectors", parts), _scaled(parts, scaling)
    return VectorData(*tensors, classes=parts.classes, digest=digest, scaling=scaling)


def series_data(
    series: Array,
    labels: Array | None = None,
    *,
    test: Array | None = None,
    test_labels: Array | None = None,
) -> SeriesData:
    """Return a data set of series of one length.

    Each channel is scaled so that its training values reach from -1 to 1. A generator may end in
    Tanh or be linear. A channel that is constant is only moved to 0. Metrics compare scaled
    series, and `gan generate` writes the data's own units.

    Args:
        series: numbers (n, length) or (n, channels, length), all finite.
        labels: whole numbers or texts (n,), see `gan.data.arrays.split`. None makes one class.
        test: series to hold out. None holds out one in ten, always the same ones.
        test_labels: their labels.

    Raises:
        UserError: the arrays are not of that kind, or do not fit together.
    """
    parts = _finite_parts("series", series, labels, test, test_labels, (2, 3))
    train = parts.samples
    axes = (0, train.ndim - 1)
    low, high = train.min(axis=axes, keepdims=True)[0], train.max(axis=axes, keepdims=True)[0]
    scaling = _scaling(np.where(low < high, (high - low) / 2, 1), (low + high) / 2)
    digest, tensors = _digest("series", parts), _scaled(parts, scaling)
    return SeriesData(*tensors, classes=parts.classes, digest=digest, scaling=scaling)


def _finite_parts(
    name: str,
    samples: Array,
    labels: Array | None,
    test: Array | None,
    test_labels: Array | None,
    dimensions: tuple[int, ...],
) -> Split:
    rows = _finite(name, samples, dimensions)
    held_out = None if test is None else _finite("test", test, dimensions)
    return split(name, rows, labels, held_out, test_labels)


def _finite(name: str, samples: Array, dimensions: tuple[int, ...]) -> np.ndarray:
    """Return samples as float64."""
    array = to_numpy(name, samples)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{name}: must be numbers, not {array.dtype}")
    if array.ndim not in dimensions or 0 in array.shape[1:]:
        allowed = " or ".join(("(n, d)" if n == 2 else "(n, channels, d)") for n in dimensions)
        raise UserError(f"{name}: shape {array.shape} is not {allowed}")
    if len(bad := np.argwhere(~np.isfinite(array))):
        place = ", ".join(map(str, bad[0]))
        raise UserError(
            f"{name}: {len(bad)} values are not finite, the first is {array[tuple(bad[0])]} at "
            f"[{place}]; remove or fill them"
        )
    return array.astype(np.float64)


def _scaling(scale: np.ndarray, offset: np.ndarray) -> Scaling:
    return Scaling(torch.from_numpy(scale.astype(np.float64)), torch.from_numpy(offset))


def _scaled(parts: Split, scaling: Scaling) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    train, labels, test, test_labels = parts.tensors()
    return scaling.to_raw(train), labels, scaling.to_raw(test), test_labels


def _digest(kind: str, parts: Split) -> str:
    """Return a hash of the samples in their own units.

    Scaled ones may differ by rounding from one machine to another.
    """
    digest = hashlib.sha256(kind.encode())
    for array in (parts.samples, parts.test_samples):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis on which values from `low` to `high` are not at the edge."""
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin
