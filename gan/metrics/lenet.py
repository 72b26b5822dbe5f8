"""A small classifier of grey images, after LeNet, whose weights come with this package: the
features of `lenet_fid` and the like are the same for everyone."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan.data import to_float

WEIGHTS = Path(__file__).parent / "weights"
NAMES = ("mnist", "fashion_mnist")
SIZE = 28
WIDTH = 128
"""Of the features."""
BATCH = 1000


class LeNet(nn.Module):
    """Three convolutions and two dense layers.

    Features are the 128 values of the first dense layer, after its ReLU.
    """

    width = WIDTH

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 20, 3, padding=1),
            nn.BatchNorm2d(20),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 40, 3, padding=1),
            nn.BatchNorm2d(40),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(40, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 3 * 3, WIDTH),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(WIDTH, 10)
        self.facts: dict[str, Any] = {}
        """Of the shipped weights: name, sha256 (its first 12 digits) and accuracy on the test
        images."""

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) in [-1, 1] to logits (n, 10)."""
        logits: Tensor = self.head(self.dropout(self.layers(images)))
        return logits

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 images (n, 1, height, width), resized to 28x28, to float64 (n, 128), on the device
        of the images, to which the network moves."""
        self.to(images.device)
        parts = [self.layers(_prepared(part)) for part in images.split(BATCH)]
        return torch.cat(parts).double()

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Features (n, 128) to probabilities of the ten classes (n, 10)."""
        logits: Tensor = self.head(features.float())
        return logits.softmax(1)

    def probabilities(self, images: Tensor) -> Tensor:
        """uint8 images (n, 1, height, width) to probabilities of the ten classes (n, 10)."""
        return self.classify(self.features(images))


@functools.cache
def load(name: str) -> LeNet:
    """The classifier trained on all of MNIST or Fashion-MNIST, on the CPU, in evaluation mode.

    Raises:
        ValueError: there is no classifier of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no classifier '{name}'; there are {', '.join(NAMES)}")
    path = WEIGHTS / f"{name}.safetensors"
    network = LeNet()
    network.load_state_dict(load_file(path))
    # This order of values in memory is quicker on a CPU, by almost half.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    with safe_open(path, framework="pt") as file:
        accuracy = float(file.metadata()["test_accuracy"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network.facts = {"name": f"lenet/{name}", "sha256": digest[:12], "accuracy": accuracy}
    return network


def _prepared(images: Tensor) -> Tensor:
    pixels = to_float(images)
    if pixels.shape[-2:] == (SIZE, SIZE):
        return pixels
    return interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
