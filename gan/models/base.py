"""Parts that pairs of networks share: labels, norms, attention, blocks and image sizes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gan.errors import UserError

Shape = tuple[int, ...]
"""Shape of one sample: (channels, height, width) of an image, (d,) of a point or a vector, or
(length,) or (channels, length) of a series."""

FIRST_SIDES = range(4, 8)
"""Pixels of the shorter side of a generator's first map."""
FEWEST_DOUBLINGS = 2
"""A generator doubles its first map this often at least."""

POWER_ITERATIONS = 15
"""Steps of the power method with which spectral norm starts."""


class Generator(nn.Module):
    """Network from latents (batch, latent_dim) to samples (batch, *image_shape).

    With `classes` above 0 it also takes int64 labels (batch,) from 0 to classes - 1. Their one-hot
    vectors are appended to the latents (arXiv:1411.1784), so `layers` must start with
    latent_dim + classes inputs. With `label_embedding` above 0, a learned vector of that length for
    each class takes the place of the one-hot vector (arXiv:2501.05441). With `labels_in_norms`,
    `layers` are `Layers` that start with latent_dim inputs, and get the one-hot vectors beside them
    (arXiv:1802.05637).

    Raises (when called):
        ValueError: labels are missing, are out of range or are not one for each latent, or were
            given to a network without classes.
    """

    stackable = False
    """Many such networks may be trained in one step: see `make_pair`."""
    paddable = False
    """Narrow ones may be padded with zeros to be stacked with wide ones: see `make_pair`."""

    def __init__(
        self,
        layers: nn.Sequential,
        *,
        latent_dim: int,
        classes: int,
        labels_in_norms: bool = False,
        label_embedding: int = 0,
    ):
        super().__init__()
        self.latent_dim = latent_dim
        self.classes = classes
        self.labels_in_norms = labels_in_norms
        self.layers = layers
        self.embedding = (
            nn.Embedding(classes, label_embedding) if classes and label_embedding else None
        )

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the samples for latents and, if the network has classes, labels."""
        if self.classes or labels is not None:
            with _checked_labels(labels, self.classes) as known:
                if self.embedding is None:
                    vectors = F.one_hot(known, self.classes)
                else:
                    vectors = self.embedding(known)
                z = torch.cat([z, vectors.to(z.dtype)], dim=1)
        given: tuple[Tensor, ...] = (z,)
        if self.labels_in_norms:
            # They were joined only because that refuses labels that are not one for each latent.
            given = (z[:, : self.latent_dim], z[:, self.latent_dim :])
        samples: Tensor = self.layers(*given)
        return samples


class Discriminator(nn.Module):
    """Network from samples to logits.

    Samples are (batch, pac * channels, height, width), or (batch, pac * d) for vectors; logits are
    (batch, 1). With the losses non_saturating and minimax, the sigmoid of a logit is the
    probability that the sample is real.

    The last of `layers` is linear in its inputs (batch, features). With `classes` above 0 the
    network also takes labels (batch,). The inner product of the features and an embedding of the
    label is then added to the logit (arXiv:1802.05637). With `projection_only` all of `layers` lead
    to the features, and this inner product is the logit (arXiv:2501.05441).

    Raises (when called):
        ValueError: the labels are wrong, see `Generator`.
    """

    stackable = False
    """See `Generator`."""
    paddable = False
    """See `Generator`."""
    judges_each_sample_alone = False
    """The logit of a sample depends on no other sample of the batch, except by batch norm."""

    def __init__(
        self, layers: nn.Sequential, *, features: int, classes: int, projection_only: bool = False
    ):
        super().__init__()
        self.classes = classes
        self.projection_only = projection_only
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
            features: return the features (batch, features) in place of logits.
        """
        layers = [*self.layers]
        hidden, last = (layers, []) if self.projection_only else (layers[:-1], layers[-1:])
        for layer in hidden:
            x = layer(x)
        if features:
            return x
        parts: list[Tensor] = [layer(x) for layer in last]
        if self.embedding is not None or labels is not None:
            with _checked_labels(labels, self.classes) as known:
                assert self.embedding is not None
                # A sum of products would broadcast one label to many inputs; bmm does not.
                inner = torch.bmm(self.embedding(known).unsqueeze(1), x.unsqueeze(2))
                parts.append(inner.squeeze(2))
        return sum(parts[1:], parts[0])


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


class Layers(nn.Sequential):
    """Layers in a row. Those that say `takes_labels` get the labels as well."""

    takes_labels = True

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the output of the last layer.

        Args:
            x: input of the first layer.
            labels: one-hot vectors (batch, classes), if a layer needs them.
        """
        for layer in self:
            x = layer(x, labels) if getattr(layer, "takes_labels", False) else layer(x)
        return x


class ResidualBlock(nn.Module):
    """The sum of a residual path and a shortcut (arXiv:1512.03385)."""

    takes_labels = True

    def __init__(self, residual: Layers, shortcut: nn.Module):
        super().__init__()
        self.residual = residual
        self.shortcut = shortcut

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the sum for inputs and, if a norm needs them, one-hot labels."""
        total: Tensor = self.residual(x, labels) + self.shortcut(x)
        return total


class ConditionalBatchNorm(nn.Module):
    """Batch norm with a scale and a shift of its own for each class (arXiv:1707.00683).

    Scales start at 1 and shifts at 0, as in arXiv:1802.05637.
    """

    takes_labels = True

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, classes: int):
        """Make the parameters.

        Args:
            norm: the batch norm, without parameters.
            classes: number of classes.
        """
        super().__init__()
        self.norm = norm
        self._shape = (-1, 1, 1) if isinstance(norm, nn.BatchNorm2d) else (-1,)
        self.scales = nn.Parameter(torch.ones(classes, norm.num_features))
        self.shifts = nn.Parameter(torch.zeros(classes, norm.num_features))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return normalized values, given x (batch, channels, ...) and labels (batch, classes)."""
        scale, shift = (
            (labels @ weight).unflatten(1, self._shape) for weight in (self.scales, self.shifts)
        )
        normalized: Tensor = self.norm(x) * scale + shift
        return normalized


class SelfAttention(nn.Module):
    """Attention of each place of a map to all others, added to the map (arXiv:1805.08318).

    Keys, queries and values have an eighth of the channels. The gate before the sum starts at
    zero, so the layer first changes nothing.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 8)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, inner, 1, bias=False)
        self.output = nn.Conv2d(inner, channels, 1, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the new map (batch, channels, height, width)."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        # Written out: the fused attention of torch has no second derivatives, which penalties need.
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=2)
        attended = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        total: Tensor = x + self.gate * self.output(attended)
        return total


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
    labels_in_norms: bool = False,
    label_embedding: int = 0,
    projection_only: bool = False,
    stackable: bool = False,
    paddable: bool = False,
    judges_each_sample_alone: bool = False,
) -> tuple[Generator, Discriminator]:
    """Return the two networks that consist of these layers.

    Args:
        generator: layers from (batch, latent_dim + classes) to samples; `Layers` from
            (batch, latent_dim) with `labels_in_norms`.
        discriminator: layers from samples to logits; to the features with `projection_only`.
        latent_dim: number of latents.
        classes: number of classes; 0 makes networks that take no labels.
        features: number of the discriminator's features, the inputs of its last layer.
        generator_spectral_norm: divide the generator's weights by their spectral norm.
        discriminator_spectral_norm: the same for the discriminator.
        initialize: draws all weights of a network; None keeps those that torch drew.
        labels_in_norms: the generator's norms take the labels, see `Generator`.
        label_embedding: length of the vectors that stand for the labels in the generator, see
            there; 0 takes one-hot vectors.
        projection_only: the discriminator's logit has no part that all classes share, see
            `Discriminator`. It needs classes.
        stackable: the layers consist of operations on tensors that look at no value, draw nothing
            from the global random state, and keep their state in buffers, changed in place.
        paddable: zeros at the end of each dimension of their tensors change no output, and stay
            zero in training.
        judges_each_sample_alone: the logit of a sample depends on no other one of the batch, but
            for batch norm. Real and fake samples may then share a pass.
    """
    pair = (
        Generator(
            generator,
            latent_dim=latent_dim,
            classes=classes,
            labels_in_norms=labels_in_norms,
            label_embedding=label_embedding,
        ),
        Discriminator(
            discriminator, features=features, classes=classes, projection_only=projection_only
        ),
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


def norm_1d(name: str, width: int, classes: int = 0) -> list[nn.Module]:
    """Return the layers, one or none, that normalize (batch, width).

    Args:
        name: "none", "batch" (arXiv:1502.03167), "layer" (arXiv:1607.06450) or
            "conditional_batch" (arXiv:1707.00683).
        width: number of features.
        classes: number of classes for "conditional_batch".

    Raises:
        ValueError: there is no norm of that name, or no classes for it.
    """
    return _choose_norm(
        name,
        classes,
        batch=lambda affine: nn.BatchNorm1d(width, affine=affine),
        layer=lambda: nn.LayerNorm(width),
    )


def norm_2d(name: str, channels: int, classes: int = 0) -> list[nn.Module]:
    """Return the layers, one or none, that normalize (batch, channels, height, width).

    Args:
        name: see `norm_1d`. "layer" normalizes over channels and space together.
        channels: number of channels.
        classes: number of classes for "conditional_batch".

    Raises:
        ValueError: there is no norm of that name, or no classes for it.
    """
    return _choose_norm(
        name,
        classes,
        batch=lambda affine: nn.BatchNorm2d(channels, affine=affine),
        layer=lambda: nn.GroupNorm(1, channels),
    )


def attention_at(side: int | None, height: int, channels: int) -> list[nn.Module]:
    """Return the layers, one or none, that come after a map of this height.

    Args:
        side: the height of the map that has self-attention; None if there is none.
        height: the height of the map.
        channels: its number of channels.
    """
    return [SelfAttention(channels)] if side == height else []


def check_attention(model: str, side: int | None, heights: Iterable[int]) -> None:
    """Check the height of the map that is to have self-attention.

    Args:
        model: name of the model for the error message.
        side: the height; None if there is no attention.
        heights: those of the maps in both networks.

    Raises:
        UserError: there is no map of this height.
    """
    allowed = sorted(heights)
    if side is not None and side not in allowed:
        raise UserError(
            f"model.attention={side}: {model} has no map of this height in both networks; allowed "
            f"are null, {', '.join(map(str, allowed))}"
        )


def find_doublings(
    model: str, image_shape: Shape, most: int, hint: str = "model=base takes any"
) -> tuple[int, int, int]:
    """Return the height and the width of a generator's first map, and how often it doubles them.

    The shorter side of the first map has 4 to 7 pixels: it has 7x7 for images of 28x28 pixels, 7x5
    for those of 28x20, and 4x4 for squares whose side is a power of two.

    Args:
        model: name of the model for the error message.
        image_shape: shape of one sample.
        most: how often the model can double its first map; it must do so twice at least.
        hint: which model takes others, for the error message.

    Raises:
        UserError: the samples are no images, or images of another size.
    """
    if len(image_shape) != 3:
        raise UserError(f"{model}: makes images, not samples of shape {image_shape}; {hint}")
    _, height, width = image_shape
    for doublings in range(FEWEST_DOUBLINGS, most + 1):
        factor = 2**doublings
        if height % factor == width % factor == 0 and min(height, width) // factor in FIRST_SIDES:
            return height // factor, width // factor, doublings
    sizes = ", ".join(f"{h}x{w}" for h, w in _nearest_sizes(height, width, most))
    raise UserError(
        f"{model}: images of {height}x{width} pixels do not fit; the nearest that do are {sizes}; "
        f"{hint}"
    )


def _nearest_sizes(height: int, width: int, most: int) -> list[tuple[int, int]]:
    """Return the two sizes of images that a model can make and that are nearest to this one."""
    shortest, longest = FIRST_SIDES[0], FIRST_SIDES[-1]
    found = set()
    for factor in (2**doublings for doublings in range(FEWEST_DOUBLINGS, most + 1)):
        sides = []
        for side in (height, width):
            near = {max(shortest, side // factor), max(shortest, -(-side // factor))}
            sides.append(near | {min(longest, one) for one in near})
        found |= {
            (h * factor, w * factor) for h in sides[0] for w in sides[1] if min(h, w) <= longest
        }
    return sorted(found, key=lambda size: (abs(size[0] - height) + abs(size[1] - width), size))[:2]


def _choose_norm(
    name: str,
    classes: int,
    *,
    batch: Callable[[bool], nn.BatchNorm1d | nn.BatchNorm2d],
    layer: Callable[[], nn.Module],
) -> list[nn.Module]:
    if name == "conditional_batch":
        if not classes:
            raise ValueError(f"norm={name}: must be of a generator that takes labels")
        return [ConditionalBatchNorm(batch(False), classes)]
    choices: dict[str, Callable[[], list[nn.Module]]] = {
        "none": lambda: [],
        "batch": lambda: [batch(True)],
        "layer": lambda: [layer()],
    }
    if name not in choices:
        raise ValueError(f"norm={name}: must be one of {', '.join(choices)}")
    return choices[name]()


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
