"""How the classifiers that come with this package are trained."""

import logging
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from gan.augment import integers, shift
from gan.data import ImageData
from gan.files import replacing
from gan.metrics.lenet import LeNet

log = logging.getLogger(__name__)

SHIFT = 2
"""Pixels that images are shifted at most, each way."""


def train(
    data: ImageData, *, flip: bool, epochs: int, batch_size: int, lr: float, seed: int
) -> tuple[LeNet, float]:
    """Train on the training images, shifted by up to two pixels.

    Args:
        flip: mirror half of the images.

    Returns:
        The network and the part of the test images that it gets right.
    """
    torch.manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)
    network = LeNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    batches = data.batches(batch_size, seed)
    total = epochs * batches.per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total)
    for number in range(total):
        images, labels = batches.batch(number)
        # Grey beyond the edge would be seen: the background of these images is black.
        rows, columns = (integers(batch_size, -SHIFT, SHIFT, noise) for _ in range(2))
        images = shift(images + 1, rows, columns, (SHIFT, SHIFT)) - 1
        if flip:
            mirrored = torch.rand(len(images), 1, 1, 1, generator=noise) < 0.5
            images = torch.where(mirrored, images.flip(-1), images)
        loss = cross_entropy(network(images), labels, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (number + 1) % batches.per_epoch == 0:
            log.info("epoch %d: loss %.4f", (number + 1) // batches.per_epoch, loss.item())
    network.eval()
    return network, accuracy(network, data.test_images, data.test_labels)


def accuracy(network: LeNet, images: Tensor, labels: Tensor) -> float:
    """The part of uint8 images (n, 1, height, width) whose class is found."""
    return float((network.probabilities(images).argmax(1) == labels).double().mean())


def save(network: LeNet, path: Path, *, data: str, accuracy: float) -> None:
    """Weights as safetensors, with the name of the data and the accuracy in its header."""
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"data": data, "test_accuracy": f"{accuracy:.4f}"})
