"""Labelled images in memory, and the two ways to write a pixel."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan.data.interface import check_split
from gan.data.sampler import Sampler
from gan.errors import UserError
from gan.seeds import stream


@dataclass(frozen=True, eq=False)
class ImageData:
    """A whole data set (`gan.data.Data`) as tensors on one device.

    Images are uint8 (n, channels, height, width), labels int64 (n,).
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    classifier: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    @property
    def size(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "ImageData":
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            test_images=self.test_images.to(device),
            test_labels=self.test_labels.to(device),
        )

    def batches(self, batch_size: int, seed: int) -> "ImageBatches":
        return ImageBatches(self, batch_size, seed)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        images, labels = self._split(split)
        if count > len(images):
            raise UserError(f"{count} images of the {split} split: it has {len(images)}")
        chosen = torch.Generator().manual_seed(stream(0, "real", split))
        order = torch.randperm(len(images), generator=chosen)[:count].to(images.device)
        return images[order], labels[order]

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
    """Each epoch holds every image at most once."""

    def __init__(self, data: ImageData, batch_size: int, seed: int):
        self._data = data
        self._sampler = Sampler(data.size, batch_size, seed, data.images.device)
        self.per_epoch = self._sampler.batches_per_epoch

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        indices = self._sampler.batch(number)
        images = to_float(self._data.images.index_select(0, indices))
        return images, self._data.labels.index_select(0, indices)


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
