"""Interface of a data set: the members that training and evaluation need."""

import hashlib
import json
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gan.errors import UserError, nearest

SPLITS = ("train", "test")
MEMBERS = (
    *("shape", "classes", "classifier", "modes", "size", "to", "batches", "real", "real_size"),
    *("frequencies", "picture", "real_picture"),
)
"""The members that every data set has."""


class Batches(Protocol):
    """Training batches of one run.

    Any batch can be asked for at any time, so a checkpoint needs no position in the data.
    """

    @property
    def per_epoch(self) -> int:
        """Number of batches in one pass over the training split."""

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return samples and labels of one batch. They depend only on the seed and `number`.

        Args:
            number: counted from 0 over all epochs.

        Returns:
            Samples (batch, *shape) as float32 and int64 labels (batch,). Images, and all samples
            of more than one dimension, are in [-1, 1].
        """


class Modes(NamedTuple):
    """The modes of a mixture of equally wide Gaussians in the plane."""

    centers: Tensor
    """Means of the Gaussians, (k, 2)."""
    std: float
    """Standard deviation of each coordinate."""


class Scaling(NamedTuple):
    """The way from raw samples to the data's own units: raw * scale + offset."""

    scale: Tensor
    """Float64 on the CPU, in a shape that broadcasts to a sample's."""
    offset: Tensor

    def to_raw(self, values: Tensor) -> Tensor:
        """Return values (n, *shape) in the data's own units as raw samples, float32."""
        return ((values - self.offset) / self.scale).float()

    def to_own_units(self, raw: Tensor) -> Tensor:
        """Return raw samples (n, *shape) in the data's own units, float64 on the CPU."""
        return raw.cpu().double() * self.scale + self.offset


class Data(Protocol):
    """A data set. Its raw samples are uint8 images, or float32 values as they are trained on.

    A data set may also have two members that are not asked of every one:

    - `scaling`, a `Scaling`. Without it, raw float samples are in the data's own units.
    - `content_hash`, a text that differs for data that give another training. Without it,
      `content_hash` below is computed from the real samples.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (channels, height, width) of an image, (d,) of a vector, or
        (length,) or (channels, length) of a series.

        A generator's output for more than one dimension should be in [-1, 1], as that of Tanh. For
        one dimension it should have no bounds.
        """

    @property
    def classes(self) -> int:
        """Number of classes; labels go from 0 to classes - 1."""

    @property
    def classifier(self) -> str | None:
        """Name of the classifier in this package that knows these classes, if there is one."""

    @property
    def modes(self) -> Modes | None:
        """The modes of a mixture of Gaussians; None for other data."""

    @property
    def size(self) -> int:
        """Number of training samples in an epoch."""

    def to(self, device: torch.device) -> "Data":
        """Return the same data set on that device."""

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Return training batches in an order that depends on `seed`."""

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Return raw samples (count, *shape) and int64 labels (count,) to compare with.

        Every call returns the same samples.

        Raises:
            UserError: there is no such split, or it has fewer samples.
        """

    def real_size(self, split: str) -> int | None:
        """Return the number of samples in a split, or None if there is no limit.

        Raises:
            UserError: there is no such split.
        """

    def frequencies(self) -> Tensor:
        """Return the share of each class in the training samples: float64 (classes,), sum 1."""

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return a uint8 image (channels, height, width) that shows raw samples.

        Images and series are put in a grid. Points and vectors are plotted over real ones.

        Args:
            samples: raw samples (n, *shape).
            columns: number of samples in a row; with None the grid is about square.
        """

    def real_picture(self, count: int, columns: int | None) -> Tensor | None:
        """Return real samples in the arrangement of `picture`.

        The result is None if `picture` shows all samples in one plot, over real ones. If the
        training split has fewer than `count` samples, all of them are shown.
        """


def summary(data: Data) -> str:
    """Return the number of samples, their size, and the number of classes in words."""
    held_out = data.real_size("test")
    text = f"{data.size:,} {_kind(data.shape)} to train on"
    text += f", {held_out:,} to test with" if held_out is not None else ""
    if data.classes == 1:
        return text
    counts = (data.frequencies() * data.size).round().long()
    low, high = int(counts.min()), int(counts.max())
    each = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{text}; {data.classes:,} classes of {each} each"


def _kind(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return f"samples of {' x '.join(map(str, shape))} values"
    channels, height, width = shape
    colour = {1: "grey ", 3: "colour "}.get(channels, f"{channels}-channel ")
    return f"{colour}images of {height}x{width}"


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        UserError: there is no such split.
    """
    if split not in SPLITS:
        hint = nearest(split, SPLITS)
        raise UserError(f"split={split}: must be one of {', '.join(SPLITS)}{hint}")


def content_hash(data: Data) -> str | None:
    """Return a hash of everything in a data set that training and metrics can see.

    It is the same on every device, and wherever the data came from. A data set that does not have
    the member `content_hash` gets the hash of its real samples, or None if a split has no limit.
    """
    own: str | None = getattr(data, "content_hash", None)
    if own is not None:
        return own
    counts = [data.real_size(split) for split in SPLITS]
    parts: list[Tensor] = []
    for split, count in zip(SPLITS, counts, strict=True):
        if count is None:
            return None
        parts += data.real(split, count)
    raw = str(parts[0].dtype)
    return combine_hashes((*data.shape, *counts, data.classes), raw, sha256(*parts))


def sha256(*tensors: Tensor) -> str:
    """Return the sha256 of the content of tensors, one after another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def combine_hashes(*parts: str | Sequence[float | None]) -> str:
    """Return one hash of hashes, texts and numbers."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_data(data: Data) -> None:
    """Check that a data set is what `Data` says, as far as one sample shows it.

    Raises:
        UserError: says what is missing or wrong.
    """
    if missing := [name for name in MEMBERS if not hasattr(data, name)]:
        raise UserError(
            f"a {type(data).__name__} is no data set, it has no {', '.join(missing)} (see "
            "gan.data.Data); gan.data.image_data, vector_data and series_data make one from arrays"
        )
    shape = tuple(data.shape)
    samples, labels = data.real("train", 1)
    image = len(shape) == 3
    if tuple(samples.shape) != (1, *shape) or tuple(labels.shape) != (1,):
        raise UserError(
            f"real samples of shape {tuple(samples.shape)} with labels of shape "
            f"{tuple(labels.shape)} do not fit data of shape {shape}"
        )
    if image and (shape[0] not in (1, 3) or samples.dtype != torch.uint8):
        raise UserError(
            f"images are uint8 and have 1 channel or 3; these are {samples.dtype} of shape {shape}"
        )
    if not image and not (0 < len(shape) < 3 and samples.dtype == torch.float32):
        raise UserError(
            "samples that are no images are float32 and have one dimension or two; these are "
            f"{samples.dtype} of shape {shape}"
        )
    if labels.dtype != torch.int64 or not 0 <= int(labels) < data.classes:
        raise UserError(
            f"labels are int64 from 0 to {data.classes - 1}; there is a {int(labels)} of type "
            f"{labels.dtype}"
        )


def range_doubt(samples: Tensor) -> str | None:
    """Return a warning if a batch that is trained on lies beyond what generators reach."""
    low, high = float(samples.min()), float(samples.max())
    if samples.dim() == 2 or (low >= -1.001 and high <= 1.001):
        return None
    return (
        f"data: samples reach from {low:.3g} to {high:.3g}, but a generator's tanh reaches from -1 "
        "to 1; scale them"
    )
