"""Digits stacked into colour images: a data set with a thousand modes to count."""

from pathlib import Path

import torch
from torch import Tensor

from gan.data.images import ImageData
from gan.data.vision import mnist
from gan.seeds import derive_seed


def stacked_mnist(*, root: str | Path) -> ImageData:
    """Load images (3, 28, 28) with a digit of MNIST in each channel (arXiv:1611.02163, 1705.07761).

    Digits a, b and c make an image of class 100a + 10b + c. There are 60,000 images to train on
    and 10,000 to test with. The digits are drawn with replacement from the same split of MNIST;
    the choice is always the same. The classifier reads one channel at a time.

    Args:
        root: folder of MNIST, see `mnist`.

    Raises:
        UserError: MNIST cannot be loaded, see `mnist`.
    """
    digits = mnist(root=root)
    return ImageData(
        *_stack(digits.images, digits.labels, "train"),
        *_stack(digits.test_images, digits.test_labels, "test"),
        classes=1000,
        classifier="mnist",
    )


def _stack(images: Tensor, labels: Tensor, split: str) -> tuple[Tensor, Tensor]:
    """Return as many stacks of three digits as there are digits (n, 1, height, width)."""
    generator = torch.Generator().manual_seed(derive_seed(0, "stacked_mnist", split))
    chosen = torch.randint(len(images), (len(images), 3), generator=generator)
    return images[chosen].squeeze(2), labels[chosen] @ torch.tensor([100, 10, 1])
