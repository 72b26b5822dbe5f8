"""Features of colour images: those of the Inception network that FID was defined with, by way
of torch-fidelity."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.data.vision import torchvision
from gan.errors import UserError

WIDTH = 2048
BATCH = 50


class Inception:
    """2,048 features of an image, in evaluation mode, on the device of the images."""

    width = WIDTH

    def __init__(self, network: Any, sha256: str):
        self._network = network
        self.facts = {"name": "inception-v3-compat", "sha256": sha256[:12]}

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """uint8 images (n, 3, height, width), resized to 299x299, to float64 (n, 2048)."""
        self._network.to(images.device)
        parts = [self._network(part)[0] for part in images.split(BATCH)]
        return torch.cat(parts).double()


@functools.cache
def load() -> Inception:
    """
    Raises:
        UserError: torch-fidelity is not installed, or its weights are not on this machine or
            damaged.
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
            'pip install -e ".[inception]"'
        ) from error
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    if not path.exists():
        raise UserError(
            f"metrics.names: features of colour images need the weights {path}, "
            f"to be had from {URL_INCEPTION_V3}"
        )
    # The name ends with the first digits of the hash. Checked, as the content is unpickled.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise UserError(f"metrics.names: {path} is damaged; to be had from {URL_INCEPTION_V3}")
    network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], str(path))
    return Inception(network, digest)
