"""Train a classifier that metrics take their features from, and write its weights:
gan train-classifier data=mnist out=mnist.safetensors

The weights that come with the package, gan/metrics/weights/mnist.safetensors and
fashion_mnist.safetensors, were made with `data=mnist epochs=6` and `data=fashion_mnist epochs=12`
and one thread (OMP_NUM_THREADS=1).
"""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.commands.command_line import run_command
from gan.commands.help import option
from gan.config.compose import compose
from gan.errors import UserError, nearest
from gan.system.files import replacing

# torch takes seconds to import. Help and mistakes on the command line need none of it, so the
# functions below import what needs torch when they are called.
if TYPE_CHECKING:
    from torch import Tensor

    from gan.data import ImageData
    from gan.metrics.lenet import LeNet

NAMES = ("mnist", "fashion_mnist")
"""Values of the option `data`."""
SHIFT = 2
"""Most pixels by which an image is shifted, each way."""


@dataclass
class Options:
    """Options of `gan train-classifier`."""

    data: str = option("mnist", "mnist or fashion_mnist")
    out: Path = option(Path("classifier.safetensors"), "file to write")
    epochs: int = option(6, "passes over the training images")
    batch_size: int = option(128, "images in a batch")
    lr: float = option(3e-3, "highest learning rate of the schedule")
    seed: int = option(0, "seed of the weights and of the batches")


def main() -> None:
    """Run the command line."""
    run_command(train_classifier, Options)


def train_classifier(paths: list[Path], options: Options) -> None:
    """Train a classifier, write its weights and print its accuracy.

    Raises:
        UserError: an option is wrong, or the file cannot be written.
    """
    if paths:
        raise UserError(f"{paths[0]}: no paths are needed; usage: data=mnist out=FILE")
    if options.data not in NAMES:
        hint = nearest(options.data, NAMES)
        raise UserError(f"data={options.data}: must be one of {', '.join(NAMES)}{hint}")
    for name in ("epochs", "batch_size"):
        if getattr(options, name) < 1:
            raise UserError(f"{name}={getattr(options, name)}: must be at least 1")
    if not 0 < options.lr < math.inf:
        raise UserError(f"lr={options.lr}: must be above 0 and finite")
    if not 0 <= options.seed < 2**63:
        raise UserError(f"seed={options.seed}: must be from 0 to 2**63 - 1")
    out = options.out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror or error})") from error
    # Refuse the file before the minutes of training, not after them.
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"out={out}: cannot be written")
    import torch

    from gan.build import load_data
    from gan.data import ImageData

    data = load_data(compose(f"data={options.data}"), torch.device("cpu"))
    assert isinstance(data, ImageData)
    if options.batch_size > data.size:
        raise UserError(
            f"batch_size={options.batch_size}: must be at most {data.size}, the training images"
        )
    network, right = train(
        data,
        flip=options.data == "fashion_mnist",
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
    )
    save(network, out, data=options.data, accuracy=right)
    print(f"{out}: {right:.2%} of the test images right")


def train(
    data: "ImageData", *, flip: bool, epochs: int, batch_size: int, lr: float, seed: int
) -> tuple["LeNet", float]:
    """Train on the training images, shifted by up to SHIFT pixels.

    Args:
        flip: mirror half of the images.

    Returns:
        The network, and its accuracy on the test images.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from gan.augment import integers, shift
    from gan.metrics.lenet import LeNet

    torch.manual_seed(seed)
    noise = torch.Generator().manual_seed(seed)
    network = LeNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01, fused=True)
    batches = data.batches(batch_size, seed)
    total = epochs * batches.per_epoch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=total)
    for number in range(total):
        images, labels = batches.batch(number)
        # shift() fills with 0, which is grey here, but the background is black: add 1 before it.
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
            epoch = (number + 1) // batches.per_epoch
            print(f"epoch {epoch} of {epochs}: loss {loss.item():.4f}", file=sys.stderr)
    network.eval()
    return network, accuracy(network, data.test_images, data.test_labels)


def accuracy(network: "LeNet", images: "Tensor", labels: "Tensor") -> float:
    """Return the part of uint8 images (n, 1, height, width) that the network gets right."""
    return float((network.probabilities(images).argmax(1) == labels).double().mean())


def save(network: "LeNet", path: Path, *, data: str, accuracy: float) -> None:
    """Write the weights as safetensors; the header holds the data's name and the accuracy."""
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(weights, temporary, metadata={"data": data, "test_accuracy": f"{accuracy:.4f}"})
