"""Features of colour images, from the Inception network that defines the FID. torch-fidelity
carries this network; its weights are a download of their own."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.data.vision import torchvision
from gan.errors import UserError

WIDTH = 2048
"""Number of features."""
BATCH = 50
"""Images that go through the network at once."""


class Inception:
    """The Inception network, in evaluation mode. It moves to the device of the images."""

    def __init__(self, network: Any, sha256: str):
        """Wrap a network.

        Args:
            network: torch-fidelity's.
            sha256: hexadecimal hash of the file of weights.
        """
        self._network = network
        self.facts = {"name": "inception-v3-compat", "sha256": sha256[:12]}
        """The network's name and the first 12 digits of the hash."""

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features, float64 (n, 2048), of uint8 images (n, 3, height, width), which are
        resized to 299x299."""
        self._network.to(images.device)
        parts = [self._network(part)[0] for part in images.split(BATCH)]
        return torch.cat(parts).double()


@functools.cache
def load() -> Inception:
    """Return the network with its published weights. Nothing is downloaded.

    Raises:
        UserError: torch-fidelity is not installed, or the file of weights is missing or damaged.
    """
    torchvision()
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )
    except ImportError as error:
        raise UserError(
            "metrics.names: features of colour images need torch-fidelity: "
            'pip install "gan-sweeps[inception]"'
        ) from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not path.exists():
        raise UserError(
            f"metrics.names: features of colour images need the weights {path}, "
            f"to be had from {URL_INCEPTION_V3}"
        )
    # The file's name ends with the first digits of its hash. torch-fidelity unpickles the file,
    # so it must be the published one.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise UserError(f"metrics.names: {path} is damaged; to be had from {URL_INCEPTION_V3}")
    network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], str(path))
    return Inception(network, digest)
