"""Labelled images as a data set, the order of their batches, and conversions of their pixels."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gan.data.base import check_split
from gan.data.mapped import Prefetcher, RowReader, free_memory
from gan.data.pictures import grid
from gan.errors import UserError
from gan.seeds import stream

PREFETCHED_BATCHES = 4
"""Number of batches that the background thread prepares in advance."""


class Sampler:
    """Indices of the images in each batch.

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
            generator = torch.Generator().manual_seed(stream(self.seed, "order", epoch))
            self._order = torch.randperm(self.size, generator=generator).to(self.device)
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set of images as tensors, as `gan.data.Data`.

    Images are uint8 (n, channels, height, width), labels int64 (n,). The tensors are on the
    device of the run, unless they are too large for it.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    classifier: str | None = None
    target_device: torch.device | None = None
    """Device for batches if the tensors stay on the host, in memory or in a mapped file; a
    background thread then collects the batches. None if the tensors are on the device."""
    reader: RowReader | None = None
    """Reader of the mapped file, which holds the training images and then the test images."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image: (channels, height, width)."""
        return tuple(self.images.shape[1:])

    @property
    def modes(self) -> None:
        """Return None, as images are no mixture of Gaussians."""

    @property
    def size(self) -> int:
        """Number of training images."""
        return len(self.images)

    def to(self, device: torch.device) -> "ImageData":
        """Return the same data set for that device.

        The tensors stay on the host if they would take more than half of a GPU's free memory, or
        if they are in a mapped file and the device is no GPU.
        """
        if device.type == "cuda":
            stays = self.images.nbytes + self.test_images.nbytes > free_memory(device) / 2
        else:
            stays = self.target_device is not None
        if stays:
            return replace(self, target_device=device)
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
            target_device=None,
            reader=None,
        )

    def batches(self, batch_size: int, seed: int) -> "ImageBatches | PrefetchedBatches":
        """Return training batches in an order that depends on `seed`."""
        sampler = Sampler(self.size, batch_size, seed, self.images.device)
        if self.target_device is None:
            return ImageBatches(self.images, self.labels, sampler)
        return PrefetchedBatches(self.images, self.labels, sampler, self.target_device, self.reader)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Return uint8 images (count, channels, height, width) and labels (count,).

        They are chosen without replacement and are the same at every call.

        Raises:
            UserError: there is no such split, or it has fewer images.
        """
        images, labels = self._split(split)
        if count > len(images):
            raise UserError(f"{count} images of the {split} split: it has {len(images)}")
        chosen = torch.Generator().manual_seed(stream(0, "real", split))
        order = torch.randperm(len(images), generator=chosen)[:count].to(images.device)
        if self.target_device is None:
            return images[order], labels[order]
        first = 0 if split == "train" else self.size
        rows = _copy_rows(images, order, self.reader, first=first)
        return rows.to(self.target_device), labels[order].to(self.target_device)

    def real_size(self, split: str) -> int:
        """Return the number of images in a split."""
        return len(self._split(split)[0])

    def frequencies(self) -> Tensor:
        """Return the share of each class in the training images: float64 (classes,), sum 1."""
        counts = torch.bincount(self.labels.cpu(), minlength=self.classes)
        return counts.double() / len(self.labels)

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return uint8 images (n, channels, height, width) as a grid with so many in a row."""
        return grid(samples, columns)

    def real_picture(self, count: int, columns: int | None) -> Tensor:
        """Return `count` training images, or all if there are fewer, as a grid."""
        images, _ = self.real("train", min(count, self.size))
        return grid(images, columns)

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        check_split(split)
        if split == "train":
            return self.images, self.labels
        return self.test_images, self.test_labels


class ImageBatches:
    """Batches that are collected on the device of the images, each image at most once an epoch."""

    def __init__(self, images: Tensor, labels: Tensor, sampler: Sampler):
        self._images, self._labels, self._sampler = images, labels, sampler
        self.per_epoch = sampler.batches_per_epoch

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return images (batch, channels, height, width) in [-1, 1] and labels (batch,)."""
        indices = self._sampler.batch(number)
        images = to_float(self._images.index_select(0, indices))
        return images, self._labels.index_select(0, indices)


class PrefetchedBatches:
    """The batches of `ImageBatches`, collected on the host by a thread and copied to a device.

    The thread ends when this object is deleted.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        sampler: Sampler,
        device: torch.device,
        reader: RowReader | None,
    ):
        self._device = device
        self.per_epoch = sampler.batches_per_epoch
        self._pinned = pinned = device.type == "cuda"

        def collect(number: int) -> tuple[Tensor, Tensor]:
            indices = sampler.batch(number)
            return (
                _copy_rows(images, indices, reader, pinned=pinned),
                _copy_rows(labels, indices, None, pinned=pinned),
            )

        self._prefetcher = Prefetcher(collect, PREFETCHED_BATCHES)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return images (batch, channels, height, width) in [-1, 1] and labels (batch,)."""
        images, labels = (
            part.to(self._device, non_blocking=self._pinned)
            for part in self._prefetcher.get(number)
        )
        return to_float(images), labels


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


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 pixels to floats in [-1, 1], the range of the generator's tanh."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Convert floats in [-1, 1] to the nearest uint8 pixels."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def to_raw_samples(output: Tensor) -> Tensor:
    """Convert a generator's output to raw samples: images to uint8 pixels, points to float32."""
    return to_uint8(output) if output.dim() == 4 else output.float()
