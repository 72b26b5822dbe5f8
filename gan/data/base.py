"""What training and evaluation ask of a data set, whatever its samples are."""

from typing import Protocol

import torch
from torch import Tensor

from gan.errors import UserError, nearest

SPLITS = ("train", "test")


class Batches(Protocol):
    """The batches of one run: any of them can be had at any time, so nothing is to be saved."""

    @property
    def per_epoch(self) -> int:
        """How many batches see the training split once."""

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Samples (batch, *shape) as float32, images in [-1, 1], and int64 labels (batch,).

        A function of the seed and `number`, counted from 0 over all epochs.
        """


class Data(Protocol):
    """A data set. "Raw" samples are uint8 images or float32 points."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: (channels, height, width), or (2,)."""

    @property
    def classes(self) -> int:
        """Labels are 0 to classes - 1."""

    @property
    def classifier(self) -> str | None:
        """The classifier of this package that knows these classes."""

    @property
    def size(self) -> int:
        """Training samples: an epoch."""

    def to(self, device: torch.device) -> "Data":
        """The same data set on that device."""

    def batches(self, batch_size: int, seed: int) -> Batches:
        """Training batches, whose order `seed` decides."""

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Raw samples (count, *shape) and int64 labels (count,) to compare with: the same at
        every call.

        Raises:
            UserError: there is no such split, or it has fewer samples.
        """

    def real_size(self, split: str) -> int | None:
        """Samples in a split; None where they never end.

        Raises:
            UserError: there is no such split.
        """

    def frequencies(self) -> Tensor:
        """How often each class is among the training samples: float64 (classes,), summing to 1."""


def check_split(split: str) -> None:
    """
    Raises:
        UserError: there is no such split.
    """
    if split not in SPLITS:
        hint = nearest(split, SPLITS)
        raise UserError(f"split={split}: must be one of {', '.join(SPLITS)}{hint}")
