"""A small classifier of grey images in the manner of LeNet.

Its weights come with this package, so `lenet_fid` and other metrics of its features are the same
numbers for everyone.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gan.arithmetic import in_double
from gan.data import to_float

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the trained weights."""
NAMES = ("mnist", "fashion_mnist")
"""Data sets that a classifier was trained on."""
SIZE = 28
"""Height and width of the images that it reads; others are resized."""
WIDTH = 128
"""Number of features."""
BATCH = 1000
"""Images that go through the network at once."""


class LeNet(nn.Module):
    """A network of three convolutions and two dense layers.

    Its features are the 128 values of the first dense layer, after the ReLU.
    """

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
        self.width = WIDTH
        self.facts: dict[str, Any] = {}
        """Facts of the weights that come with this package: their name, the first 12 digits of
        their sha256 and their accuracy on the test images. Empty for other weights."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 10) of images (n, 1, 28, 28) in [-1, 1]."""
        logits: Tensor = self.head(self.dropout(self.layers(images)))
        return logits

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features, float64 (n, 128), of uint8 images (n, 1, height, width), which are
        resized to 28x28. The network moves to the device of the images."""
        self.to(images.device)
        parts = [self.layers(_pixels(part)) for part in images.split(BATCH)]
        return in_double(torch.cat(parts))

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Return probabilities of the ten classes (n, 10), given features (n, 128)."""
        logits: Tensor = self.head(features.float())
        return logits.softmax(1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities of the ten classes (n, 10), given uint8 images (n, 1, height,
        width)."""
        return self.classify(self.features(images))


@functools.cache
def load(name: str) -> LeNet:
    """Return the classifier that was trained on all training images of a data set, on the CPU and
    in evaluation mode.

    Args:
        name: one of `NAMES`.

    Raises:
        ValueError: there is no classifier of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no classifier '{name}'; there are {', '.join(NAMES)}")
    path = WEIGHTS / f"{name}.safetensors"
    network = LeNet()
    network.load_state_dict(load_file(path))
    # This order of values in memory makes it almost twice as fast on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    with safe_open(path, framework="pt") as file:
        accuracy = float(file.metadata()["test_accuracy"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    network.facts = {"name": f"lenet/{name}", "sha256": digest[:12], "accuracy": accuracy}
    return network


def _pixels(images: Tensor) -> Tensor:
    pixels = to_float(images)
    if pixels.shape[-2:] == (SIZE, SIZE):
        return pixels
    return interpolate(pixels, size=(SIZE, SIZE), mode="bilinear", antialias=True)
