"""Data sets that consist of labelled tensors, and the order of their batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gan.data.base import check_split, combine_hashes, sha256
from gan.data.mapped import Prefetcher, RowReader, free_memory
from gan.errors import UserError
from gan.seeds import derive_seed

Self = TypeVar("Self", bound="TensorData")

PREFETCHED_BATCHES = 4
"""Number of batches that the background thread prepares in advance."""


class Sampler:
    """Indices of the samples in each batch.

    Each epoch is a new permutation, whose incomplete last batch is dropped. A batch depends only
    on the seed and its number, so a resumed run needs no saved position.
    """

    def __init__(self, size: int, batch_size: int, seed: int, device: torch.device):
        self.size, self.batch_size, self.seed, self.device = size, batch_size, seed, device
        self.batches_per_epoch = size // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, number: int) -> Tensor:
        """Return the indices (batch_size,) of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            self._order = torch.randperm(self.size, generator=generator).to(self.device)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]


@dataclass(frozen=True, eq=False)
class TensorData(ABC):
    """A data set of tensors; each kind of samples has its own subclass.

    Samples are (n, *shape), labels int64 (n,). The tensors are on the device of the run, unless
    they are too large for it.
    """

    samples: Tensor
    labels: Tensor
    test_samples: Tensor
    test_labels: Tensor
    classes: int
    classifier: str | None = None
    target_device: torch.device | None = None
    """Device for batches if the tensors stay on the host, in memory or in a mapped file; a
    background thread then collects the batches. None if the tensors are on the device."""
    reader: RowReader | None = None
    """Reader of the mapped file, which holds the training samples and then the test samples."""
    digest: str | None = None
    """The sha256 of the samples to train on and then those to test with, if it is known."""
    modes: None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.samples.shape[1:])

    @property
    def size(self) -> int:
        """Number of training samples."""
        return len(self.samples)

    @cached_property
    def content_hash(self) -> str:
        """Hash of everything that training and metrics can see, the same on every device."""
        digest = self.digest or sha256(self.samples, self.test_samples)
        sizes = (*self.shape, self.size, len(self.test_samples), self.classes)
        return combine_hashes(sizes, digest, sha256(self.labels, self.test_labels))

    def to(self: Self, device: torch.device) -> Self:
        """Return the same data set for that device.

        The tensors stay on the host if they would take more than half of a GPU's free memory, or
        if they are in a mapped file and the device is no GPU.
        """
        if device.type == "cuda":
            stays = self.samples.nbytes + self.test_samples.nbytes > free_memory(device) / 2
        else:
            stays = self.target_device is not None
        if stays:
            return replace(self, target_device=device)
        return replace(
            self,
            samples=self.samples.to(device),
            labels=self.labels.to(device),
            test_samples=self.test_samples.to(device),
            test_labels=self.test_labels.to(device),
            target_device=None,
            reader=None,
        )

    def batches(self, batch_size: int, seed: int) -> "TensorBatches | PrefetchedBatches":
        """Return training batches in an order that depends on `seed`."""
        sampler = Sampler(self.size, batch_size, seed, self.samples.device)
        source = self.samples, self.labels, sampler, self.for_training
        if self.target_device is None:
            return TensorBatches(*source)
        return PrefetchedBatches(*source, self.target_device, self.reader)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Return raw samples (count, *shape) and labels (count,).

        They are chosen without replacement and are the same at every call.

        Raises:
            UserError: there is no such split, or it has fewer samples.
        """
        samples, labels = self._split(split)
        if count > len(samples):
            raise UserError(f"{count} samples of the {split} split: it has {len(samples)}")
        chosen = torch.Generator().manual_seed(derive_seed(0, "real", split))
        order = torch.randperm(len(samples), generator=chosen)[:count].to(samples.device)
        if self.target_device is None:
            return samples[order], labels[order]
        first = 0 if split == "train" else self.size
        rows = _copy_rows(samples, order, self.reader, first=first)
        return rows.to(self.target_device), labels[order].to(self.target_device)

    def real_size(self, split: str) -> int:
        """Return the number of samples in a split."""
        return len(self._split(split)[0])

    def frequencies(self) -> Tensor:
        """Return the share of each class in the training samples: float64 (classes,), sum 1."""
        counts = torch.bincount(self.labels.cpu(), minlength=self.classes)
        return counts.double() / len(self.labels)

    @staticmethod
    @abstractmethod
    def for_training(raw: Tensor) -> Tensor:
        """Return raw samples as the networks see them, float32."""

    @abstractmethod
    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return a picture of raw samples, see `gan.data.Data`."""

    def real_picture(self, count: int, columns: int | None) -> Tensor | None:
        """Return a picture of `count` training samples, or of all if there are fewer."""
        samples, _ = self.real("train", min(count, self.size))
        return self.picture(samples, columns)

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        check_split(split)
        if split == "train":
            return self.samples, self.labels
        return self.test_samples, self.test_labels


class TensorBatches:
    """Batches that are collected on the device of the samples, each at most once an epoch."""

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor,
        sampler: Sampler,
        for_training: Callable[[Tensor], Tensor],
    ):
        self._samples, self._labels, self._sampler = samples, labels, sampler
        self._for_training = for_training
        self.per_epoch = sampler.batches_per_epoch

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return samples (batch, *shape) as float32 and labels (batch,)."""
        indices = self._sampler.batch(number)
        samples = self._for_training(self._samples.index_select(0, indices))
        return samples, self._labels.index_select(0, indices)


class PrefetchedBatches:
    """The batches of `TensorBatches`, collected on the host by a thread and copied to a device.

    The thread ends when this object is deleted.
    """

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor,
        sampler: Sampler,
        for_training: Callable[[Tensor], Tensor],
        device: torch.device,
        reader: RowReader | None,
    ):
        self._device, self._for_training = device, for_training
        self.per_epoch = sampler.batches_per_epoch
        self._pinned = pinned = device.type == "cuda"

        def collect(number: int) -> tuple[Tensor, Tensor]:
            indices = sampler.batch(number)
            return (
                _copy_rows(samples, indices, reader, pinned=pinned),
                _copy_rows(labels, indices, None, pinned=pinned),
            )

        self._prefetcher = Prefetcher(collect, PREFETCHED_BATCHES)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return samples (batch, *shape) as float32 and labels (batch,)."""
        samples, labels = (
            part.to(self._device, non_blocking=self._pinned)
            for part in self._prefetcher.get(number)
        )
        return self._for_training(samples), labels


def _copy_rows(
    source: Tensor,
    indices: Tensor,
    reader: RowReader | None,
    *,
    first: int = 0,
    pinned: bool = False,
) -> Tensor:
    """Return a copy of the rows `indices` of a tensor on the host.

    This thread makes the copy alone: `index_select` would start as many threads as training uses.

    Args:
        reader: reads the rows from a file, in which the tensor starts at row `first`.
    """
    rows = torch.empty(len(indices), *source.shape[1:], dtype=source.dtype, pin_memory=pinned)
    if reader:
        reader.read(indices.numpy() + first, rows.numpy())
    else:
        # With mode "raise", numpy would first write to a temporary array.
        np.take(source.numpy(), indices.numpy(), axis=0, out=rows.numpy(), mode="clip")
    return rows
