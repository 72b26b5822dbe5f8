"""Features and class probabilities of images from the Inception network that defines the FID.

torch-fidelity carries this network; its weights are a download of their own.
"""

import functools
import hashlib
import io
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gan.arithmetic import in_double
from gan.data.vision import torchvision
from gan.errors import UserError, first_line

WIDTH = 2048
"""Number of features."""
SIDE = 299
"""Height and width that images are resized to."""
BATCH = 50
"""Images that go through the network at once."""

URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Hash of the published weights, which torch-fidelity and pytorch-fid share."""
BYTES = 95_628_359
FILES = (URL.rpartition("/")[2], "pt_inception-2015-12-05-6726825d.pth")
"""Names of the file of weights as torch-fidelity and as pytorch-fid keep it."""

_LAYERS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
"""The network's layers up to its features, in their order."""


class Inception:
    """The Inception network, in evaluation mode. It moves to the device of the images."""

    def __init__(self, network: Any, sha256: str, resizing: str):
        """Wrap a network.

        Args:
            network: torch-fidelity's.
            sha256: hexadecimal hash of the file of weights.
            resizing: see `load`.
        """
        self._network, self._resizing = network, resizing
        name = "inception-v3-compat" + ("" if resizing == "tensorflow" else f"/{resizing}")
        self.facts = {"name": name, "sha256": sha256[:12]}
        """The network's name, with its way of resizing unless that is TensorFlow's, and the first
        12 digits of the hash."""
        self.width = WIDTH

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features, float64 (n, 2048), of uint8 images (n, 1 or 3, height, width).

        Images are resized to 299x299. A grey image is shown as three equal channels.
        """
        self._network.to(images.device)
        parts = []
        for part in images.split(BATCH):
            x = self._pixels(part.expand(-1, 3, -1, -1))
            for name in _LAYERS:
                x = getattr(self._network, name)(x)
            parts.append(x.flatten(1))
        return in_double(torch.cat(parts))

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Return probabilities of 1,008 classes, float64 (n, 1008), given features (n, 2048).

        The logits have no bias, as in the code of arXiv:1606.03498.
        """
        weight: Tensor = self._network.fc.weight
        logits = features.to(weight.dtype) @ weight.to(features.device).T
        return in_double(logits).softmax(1)

    def _pixels(self, images: Tensor) -> Tensor:
        if self._resizing == "pytorch":
            size = (SIDE, SIDE)
            resized = interpolate(images.float() / 255, size, mode="bilinear", align_corners=False)
            return 2 * resized - 1
        from torch_fidelity.interpolate_compat_tensorflow import (
            interpolate_bilinear_2d_like_tensorflow1x as like_tensorflow,
        )

        resized = like_tensorflow(images.float(), size=(SIDE, SIDE), align_corners=False)
        pixels: Tensor = (resized - 128) / 128
        return pixels


@functools.cache
def load(
    *,
    weights: Path | None = None,
    sha256: str | None = SHA256,
    resizing: Literal["tensorflow", "pytorch"] = "tensorflow",
) -> Inception:
    """Return the network with its published weights, or others. Nothing is downloaded.

    Args:
        weights: the file of weights, a state dict as `torch.save` writes it. None takes the file
            in torch's own folder that torch-fidelity or pytorch-fid has left there.
        sha256: the hash that the file must have, or the first digits of it; None takes any file.
        resizing: how images get 299x299 pixels. `tensorflow` is the bilinear resizing of the
            original code (arXiv:1706.08500), which torch-fidelity and StyleGAN repeat, and
            `pytorch` that of pytorch-fid, which differs by half a pixel and in the last grey level.

    Raises:
        UserError: torch-fidelity is not installed, or the file of weights is missing, has another
            hash or holds something else.
    """
    torchvision()
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise UserError(
            'features of Inception need torch-fidelity: pip install "gan-sweeps[inception]"'
        ) from error
    path = weights or _usual_file()
    if not path.is_file():
        raise UserError(
            f"features of Inception need the weights {path}, which are not there: {BYTES:,} bytes, "
            f"sha256 {SHA256}; fetch them by: curl --create-dirs -L -o {path} {URL}"
        )
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and not (sha256 and digest.startswith(sha256)):
        raise UserError(
            f"{path}: has the sha256 {digest}, and features.sha256={sha256} is asked for; the "
            f"published weights ({BYTES:,} bytes) come by: curl --create-dirs -L -o {path} {URL}"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        # torch-fidelity would unpickle anything that a file holds, so it gets a checked copy.
        checked = io.BytesIO()
        torch.save(state, checked)
        checked.seek(0)
        network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], checked)
    except Exception as error:
        raise UserError(f"{path}: no weights of Inception ({first_line(error)})") from error
    return Inception(network, digest, resizing)


def _usual_file() -> Path:
    """Return the file of weights in torch's own folder; the place where it belongs if there is
    none."""
    paths = [Path(torch.hub.get_dir()) / "checkpoints" / name for name in FILES]
    return next(filter(Path.is_file, paths), paths[0])
