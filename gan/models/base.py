"""What every pair of networks has in common: labels on the way in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, ...]
"""Of one sample: channels, height, width; or (2,) for a point."""


class Generator(nn.Module):
    """Latents (batch, latent_dim) to samples (batch, *image_shape).

    With `classes` above 0 it also takes int64 labels (batch,), from 0 to classes - 1, and puts
    their one-hot vectors beside the latents (arXiv:1411.1784): `layers` begin with
    latent_dim + classes inputs.

    Raises (when called):
        ValueError: labels are missing, out of range or not one for each latent, or were given
            to a network without classes.
    """

    def __init__(self, layers: nn.Sequential, *, latent_dim: int, classes: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = classes
        self.layers = layers

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.classes or labels is not None:
            with _checked(labels, self.classes) as known:
                z = torch.cat([z, F.one_hot(known, self.classes).to(z.dtype)], dim=1)
        samples: Tensor = self.layers(z)
        return samples


class Discriminator(nn.Module):
    """Samples (batch, pac * channels, height, width), or (batch, pac * 2), to logits (batch, 1);
    a sigmoid of the logit is the probability that the sample is real.

    The last of `layers` is linear in its inputs (batch, features). With `classes` above 0 labels
    (batch,) are needed, and the inner product of the features with an embedding of the label is
    added to the logit (arXiv:1802.05637).

    Raises (when called):
        ValueError: as by the generator.
    """

    def __init__(self, layers: nn.Sequential, *, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.layers = layers
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            # As the last layer's weights, to which the embedding adds a part for each class.
            nn.init.uniform_(self.embedding.weight, -(features**-0.5), features**-0.5)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        features = x
        *hidden, last = self.layers
        for layer in hidden:
            features = layer(features)
        logits: Tensor = last(features)
        if self.embedding is not None or labels is not None:
            with _checked(labels, self.classes) as known:
                assert self.embedding is not None
                # Unlike a sum of products, it does not broadcast one label to many inputs.
                inner = torch.bmm(self.embedding(known).unsqueeze(1), features.unsqueeze(2))
                logits = logits + inner.squeeze(2)
        return logits


@contextmanager
def _checked(labels: Tensor | None, classes: int) -> Iterator[Tensor]:
    """The labels, for a use that fails where they are wrong.

    Looking at their values here would wait for the device, and cannot be done under vmap.
    """
    if not classes:
        raise ValueError("labels: given to an unconditional network")
    if labels is None:
        raise ValueError(f"labels: missing, but the network is conditional on {classes} classes")
    try:
        yield labels
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f"labels: must be int64 from 0 to {classes - 1}, one for each input ({error})"
        ) from error
