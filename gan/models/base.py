"""Parts that all pairs of networks share: labels, norms, spectral norm and image sizes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gan.errors import UserError

Shape = tuple[int, ...]
"""Shape of one sample: (channels, height, width) of an image, (d,) of a point or a vector, or
(length,) or (channels, length) of a series."""

POWER_ITERATIONS = 15
"""Steps of the power method with which spectral norm starts."""


class Generator(nn.Module):
    """Network from latents (batch, latent_dim) to samples (batch, *image_shape).

    With `classes` above 0 it also takes int64 labels (batch,) from 0 to classes - 1. Their one-hot
    vectors are appended to the latents (arXiv:1411.1784), so `layers` must start with
    latent_dim + classes inputs.

    Raises (when called):
        ValueError: labels are missing, are out of range or are not one for each latent, or were
            given to a network without classes.
    """

    stackable = False
    """Many such networks may be trained in one step: see `make_pair`."""
    paddable = False
    """Narrow ones may be padded with zeros to be stacked with wide ones: see `make_pair`."""

    def __init__(self, layers: nn.Sequential, *, latent_dim: int, classes: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = classes
        self.layers = layers

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the samples for latents and, if the network has classes, labels."""
        if self.classes or labels is not None:
            with _checked_labels(labels, self.classes) as known:
                z = torch.cat([z, F.one_hot(known, self.classes).to(z.dtype)], dim=1)
        samples: Tensor = self.layers(z)
        return samples


class Discriminator(nn.Module):
    """Network from samples to logits.

    Samples are (batch, pac * channels, height, width), or (batch, pac * d) for vectors; logits are
    (batch, 1). The sigmoid of a logit is the probability that the sample is real.

    The last of `layers` is linear in its inputs (batch, features). With `classes` above 0 the
    network also takes labels (batch,). The inner product of the features and an embedding of the
    label is then added to the logit (arXiv:1802.05637).

    Raises (when called):
        ValueError: the labels are wrong, see `Generator`.
    """

    stackable = False
    """See `Generator`."""
    paddable = False
    """See `Generator`."""
    judges_each_sample_alone = False
    """The logit of a sample depends on no other sample of the batch, but for batch norm."""

    def __init__(self, layers: nn.Sequential, *, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.layers = layers
        self.embedding = nn.Embedding(classes, features) if classes else None
        if self.embedding is not None:
            # The embedding adds a part for each class to the last layer's weights, so it starts
            # with their distribution.
            nn.init.uniform_(self.embedding.weight, -(features**-0.5), features**-0.5)

    def forward(self, x: Tensor, labels: Tensor | None = None, *, features: bool = False) -> Tensor:
        """Return the logits of samples and, if the network has classes, their labels.

        Args:
            x: samples.
            labels: their classes.
            features: return the inputs of the last layer (batch, features) in place of logits.
        """
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x)
        if features:
            return x
        logits: Tensor = last(x)
        if self.embedding is not None or labels is not None:
            with _checked_labels(labels, self.classes) as known:
                assert self.embedding is not None
                # A sum of products would broadcast one label to many inputs; bmm does not.
                inner = torch.bmm(self.embedding(known).unsqueeze(1), x.unsqueeze(2))
                logits = logits + inner.squeeze(2)
        return logits


class SpectralNorm(nn.Module):
    """Parametrization that divides a weight by its largest singular value (arXiv:1802.05957).

    The weight is taken as a matrix (outputs, everything else). Its state is changed in place, so
    that many networks can share a program.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, outputs: int):
        """Estimate the singular vectors of `weight`.

        Args:
            weight: the weight to be divided, in any shape.
            outputs: the dimension of the weight that holds the outputs.
        """
        super().__init__()
        self._outputs = outputs
        matrix = self._matrix(weight.detach())
        self.register_buffer("_u", F.normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("_v", F.normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(POWER_ITERATIONS):
            self._iterate(matrix)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by its norm; in training, first improve the estimate."""
        matrix = self._matrix(weight)
        # Copies, because the next pass changes the state before this one is differentiated.
        u, v = self._iterate(matrix) if self.training else (self._u.clone(), self._v.clone())
        norm = torch.dot(u, torch.mv(matrix, v))
        return weight / norm

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the original weight for a new value of the weight: the value itself."""
        return weight

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        u = F.normalize(torch.mv(matrix, self._v), dim=0, eps=1e-12)
        v = F.normalize(torch.mv(matrix.T, u), dim=0, eps=1e-12)
        self._u.copy_(u)
        self._v.copy_(v)
        return u, v

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self._outputs, 0).flatten(1)


def make_pair(
    generator: nn.Sequential,
    discriminator: nn.Sequential,
    *,
    latent_dim: int,
    classes: int,
    features: int,
    generator_spectral_norm: bool,
    discriminator_spectral_norm: bool,
    initialize: Callable[[nn.Module], None] | None = None,
    stackable: bool = False,
    paddable: bool = False,
    judges_each_sample_alone: bool = False,
) -> tuple[Generator, Discriminator]:
    """Return the two networks that consist of these layers.

    Args:
        generator: layers from (batch, latent_dim + classes) to samples.
        discriminator: layers from samples to logits.
        latent_dim: number of latents.
        classes: number of classes; 0 makes networks that take no labels.
        features: number of inputs of the discriminator's last layer.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.
        initialize: draws all weights of a network; None keeps those that torch drew.
        stackable: the layers consist of operations on tensors that look at no value, draw nothing
            from the global random state, and keep their state in buffers, changed in place.
        paddable: zeros at the end of each dimension of their tensors change no output, and stay
            zero in training.
        judges_each_sample_alone: the logit of a sample depends on no other one of the batch, but
            for batch norm. Real and fake samples may then share a pass.
    """
    pair = (
        Generator(generator, latent_dim=latent_dim, classes=classes),
        Discriminator(discriminator, features=features, classes=classes),
    )
    pair[1].judges_each_sample_alone = judges_each_sample_alone
    for network in pair:
        network.stackable, network.paddable = stackable, paddable
        if initialize:
            initialize(network)
    if generator_spectral_norm:
        add_spectral_norm(pair[0])
    if discriminator_spectral_norm:
        add_spectral_norm(pair[1])
    return pair


def add_spectral_norm(network: nn.Module) -> None:
    """Divide every weight matrix of a network by its largest singular value.

    The estimate of that value follows the weights: each forward pass in training adds one step of
    the power method.
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            outputs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            norm = SpectralNorm(layer.weight, outputs)
            parametrize.register_parametrization(layer, "weight", norm)


def norm_1d(name: str, width: int) -> list[nn.Module]:
    """Return the layers, one or none, that normalize (batch, width).

    Args:
        name: "none", "batch" (arXiv:1502.03167) or "layer" (arXiv:1607.06450).
        width: number of features.

    Raises:
        ValueError: there is no norm of that name.
    """
    return _choose_norm(name, batch=nn.BatchNorm1d(width), layer=nn.LayerNorm(width))


def norm_2d(name: str, channels: int) -> list[nn.Module]:
    """Return the layers, one or none, that normalize (batch, channels, height, width).

    Args:
        name: "none", "batch" (arXiv:1502.03167) or "layer" (arXiv:1607.06450), which normalizes
            over channels and space together.
        channels: number of channels.

    Raises:
        ValueError: there is no norm of that name.
    """
    return _choose_norm(name, batch=nn.BatchNorm2d(channels), layer=nn.GroupNorm(1, channels))


def find_doublings(model: str, image_shape: Shape, sides: Sequence[int]) -> tuple[int, int]:
    """Return the side of a generator's first map and how often the generator doubles it.

    The first map has 7x7 pixels for images of 28x28 pixels, and 4x4 for those whose side is a
    power of two.

    Args:
        model: name of the model for the error message.
        image_shape: shape of one sample.
        sides: sides of the images that the model can make.

    Raises:
        UserError: the samples are no images, or images of another size.
    """
    hint = f"allowed are {', '.join(f'{side}x{side}' for side in sides)}; model=base takes any"
    if len(image_shape) != 3:
        raise UserError(f"{model}: makes images, not samples of shape {image_shape}; {hint}")
    _, height, width = image_shape
    if height != width or height not in sides:
        raise UserError(f"{model}: images of {height}x{width} pixels do not fit; {hint}")
    first = 7 if height == 28 else 4
    return first, (height // first).bit_length() - 1


def _choose_norm(name: str, *, batch: nn.Module, layer: nn.Module) -> list[nn.Module]:
    choices: dict[str, list[nn.Module]] = {"none": [], "batch": [batch], "layer": [layer]}
    if name not in choices:
        raise ValueError(f"norm={name}: must be one of {', '.join(choices)}")
    return choices[name]


@contextmanager
def _checked_labels(labels: Tensor | None, classes: int) -> Iterator[Tensor]:
    """Yield the labels, and explain the error if they turn out to be wrong in the block.

    To look at their values here would make us wait for the device, and vmap forbids it.
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
