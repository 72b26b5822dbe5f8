"""Interface of a data set: the members that training and evaluation need."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gan.errors import UserError, nearest

SPLITS = ("train", "test")


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
            Samples (batch, *shape) as float32, images in [-1, 1], and int64 labels (batch,).
        """


class Modes(NamedTuple):
    """The modes of a mixture of equally wide Gaussians in the plane."""

    centers: Tensor
    """Means of the Gaussians, (k, 2)."""
    std: float
    """Standard deviation of each coordinate."""


class Data(Protocol):
    """A data set. Its raw samples are uint8 images or float32 points."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (channels, height, width), or (2,) for a point."""

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

        Images are put in a grid. Points are plotted over real ones.

        Args:
            samples: raw samples (n, *shape).
            columns: number of images in a row; with None the grid is about square.
        """

    def real_picture(self, count: int, columns: int | None) -> Tensor | None:
        """Return real samples in the arrangement of `picture`.

        The result is None if `picture` shows real samples itself. If the training split has fewer
        than `count` samples, all of them are shown.
        """


def check_split(split: str) -> None:
    """Check the name of a split.

    Raises:
        UserError: there is no such split.
    """
    if split not in SPLITS:
        hint = nearest(split, SPLITS)
        raise UserError(f"split={split}: must be one of {', '.join(SPLITS)}{hint}")
