"""Digits stacked into colour images: a data set of a thousand modes that can be told apart."""

import torch
from torch import Tensor

from gan.data.images import ImageData
from gan.data.vision import mnist
from gan.seeds import stream


def stacked_mnist(*, root: str) -> ImageData:
    """Images (3, 28, 28) whose channels are three digits of MNIST a, b and c, of class
    100a + 10b + c (arXiv:1611.02163, 1705.07761): 60,000 to train and 10,000 to test.

    The digits are drawn with replacement from the same split of MNIST, always the same ones. The
    classifier reads a channel at a time.

    Args:
        root: as of `mnist`.

    Raises:
        UserError: as `mnist`.
    """
    digits = mnist(root=root)
    return ImageData(
        *_stacked(digits.images, digits.labels, "train"),
        *_stacked(digits.test_images, digits.test_labels, "test"),
        classes=1000,
        classifier="mnist",
    )


def _stacked(images: Tensor, labels: Tensor, split: str) -> tuple[Tensor, Tensor]:
    """As many triples as there are digits (n, 1, height, width)."""
    generator = torch.Generator().manual_seed(stream(0, "stacked_mnist", split))
    chosen = torch.randint(len(images), (len(images), 3), generator=generator)
    return images[chosen].squeeze(2), labels[chosen] @ torch.tensor([100, 10, 1])
