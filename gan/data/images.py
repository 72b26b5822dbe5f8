"""Labelled images, and the two ways to write a pixel."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gan.data.ahead import Ahead
from gan.data.base import check_split
from gan.data.mapped import Rows
from gan.data.memory import free
from gan.data.sampler import Sampler
from gan.errors import UserError
from gan.seeds import stream

AHEAD = 4
"""Batches that are ready before their turn, where they are gathered in a thread."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """A whole data set (`gan.data.Data`) as tensors: on the device, unless it is too large.

    Images are uint8 (n, channels, height, width), labels int64 (n,).
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    classifier: str | None = None
    sent_to: torch.device | None = None
    """Where samples go when the tensors stay on the host, in memory or in a mapped file: batches
    are then gathered ahead, in a thread. None where the tensors are on the device."""
    rows: Rows | None = None
    """What reads the mapped file: the images to train on, then the others."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    @property
    def size(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "ImageData":
        """The same data set there; its tensors stay on the host if they would take more than half
        of a GPU's free memory, or are in a mapped file and the device is no GPU."""
        if device.type == "cuda":
            stays = self.images.nbytes + self.test_images.nbytes > free(device) / 2
        else:
            stays = self.sent_to is not None
        if stays:
            return replace(self, sent_to=device)
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
            sent_to=None,
            rows=None,
        )

    def batches(self, batch_size: int, seed: int) -> "ImageBatches | SentBatches":
        sampler = Sampler(self.size, batch_size, seed, self.images.device)
        if self.sent_to is None:
            return ImageBatches(self.images, self.labels, sampler)
        return SentBatches(self.images, self.labels, sampler, self.sent_to, self.rows)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        images, labels = self._split(split)
        if count > len(images):
            raise UserError(f"{count} images of the {split} split: it has {len(images)}")
        chosen = torch.Generator().manual_seed(stream(0, "real", split))
        order = torch.randperm(len(images), generator=chosen)[:count].to(images.device)
        if self.sent_to is None:
            return images[order], labels[order]
        first = 0 if split == "train" else self.size
        taken = _taken(images, order, self.rows, first=first)
        return taken.to(self.sent_to), labels[order].to(self.sent_to)

    def real_size(self, split: str) -> int:
        return len(self._split(split)[0])

    def frequencies(self) -> Tensor:
        counts = torch.bincount(self.labels.cpu(), minlength=self.classes)
        return counts.double() / len(self.labels)

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        check_split(split)
        if split == "train":
            return self.images, self.labels
        return self.test_images, self.test_labels


class ImageBatches:
    """Each epoch holds every image at most once. Batches are gathered on the images' device."""

    def __init__(self, images: Tensor, labels: Tensor, sampler: Sampler):
        self._images, self._labels, self._sampler = images, labels, sampler
        self.per_epoch = sampler.batches_per_epoch

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        indices = self._sampler.batch(number)
        images = to_float(self._images.index_select(0, indices))
        return images, self._labels.index_select(0, indices)


class SentBatches:
    """The same batches, gathered on the host by a thread that ends with this object, and sent to
    a device."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        sampler: Sampler,
        device: torch.device,
        rows: Rows | None,
    ):
        self._device = device
        self.per_epoch = sampler.batches_per_epoch
        self._pinned = pinned = device.type == "cuda"

        def gather(number: int) -> tuple[Tensor, Tensor]:
            indices = sampler.batch(number)
            return (
                _taken(images, indices, rows, pinned=pinned),
                _taken(labels, indices, None, pinned=pinned),
            )

        self._gathered = Ahead(gather, AHEAD)

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        images, labels = (
            part.to(self._device, non_blocking=self._pinned) for part in self._gathered.get(number)
        )
        return to_float(images), labels


def _taken(
    source: Tensor, indices: Tensor, rows: Rows | None, *, first: int = 0, pinned: bool = False
) -> Tensor:
    """The rows `indices` of a tensor on the host, copied by this thread alone.

    `index_select` would start as many threads as train.

    Args:
        rows: read them from a file, where the tensor begins with row `first`.
    """
    taken = torch.empty(len(indices), *source.shape[1:], dtype=source.dtype, pin_memory=pinned)
    if rows:
        rows.take(indices.numpy() + first, taken.numpy())
    else:
        # A mode other than "raise" writes into `out` without a copy between.
        np.take(source.numpy(), indices.numpy(), axis=0, out=taken.numpy(), mode="clip")
    return taken


def held_out(
    images: Tensor, labels: Tensor, test: Tensor, *, classes: int, classifier: str | None
) -> ImageData:
    """A data set that is published as one piece, split where `test` (n,) is true."""
    return ImageData(images[~test], labels[~test], images[test], labels[test], classes, classifier)


def to_float(images: Tensor) -> Tensor:
    """uint8 pixels to floats in [-1, 1], the range of the generator's tanh."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Floats in [-1, 1] to the nearest uint8 pixels."""
    return images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def finish(output: Tensor) -> Tensor:
    """What a generator puts out, as raw samples: images as pixels, points as they are."""
    return to_uint8(output) if output.dim() == 4 else output.float()
