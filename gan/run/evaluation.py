"""Measuring and showing a generator, without touching the training it is part of."""

from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan.build import Parts
from gan.data import Data, Mixture, finish
from gan.data.pictures import grid, scatter
from gan.errors import NotFinite
from gan.metrics.measures import Measures
from gan.seeds import stream

BATCH = 1000
"""Samples made at once."""
REAL_POINTS = 2000
"""In a plot."""


class Evaluation:
    """Latents and real samples that stay the same throughout a run.

    `measure` and `picture` look at the averaged weights where there are such, return the network
    to the mode it was in and draw no random numbers.
    """

    def __init__(self, cfg: DictConfig, parts: Parts):
        self._data, self._network = parts.data, parts.average or parts.generator
        self._weights = "average" if parts.average else "generator"
        self._measures = measures(cfg.metrics, parts.data) if cfg.metrics.names else None
        count = cfg.metrics.samples if self._measures else 0
        self._latents = latents(count, parts.latent_dim, cfg.seed, "evaluation").to(parts.device)
        self._shown = arranged(
            latents(cfg.logging.samples, parts.latent_dim, cfg.seed).to(parts.device),
            parts.data.classes if parts.conditional else 0,
        )
        self._labels = None
        if parts.conditional and self._measures:
            self._labels = self._measures.like_real(count)

    @property
    def facts(self) -> dict[str, object]:
        """What the metrics depend on, for the record."""
        found = self._measures.facts if self._measures else {}
        return {"weights": self._weights} | found

    def measure(self) -> dict[str, float]:
        """Each of the configured metrics by name.

        Raises:
            NotFinite: a sample holds NaN or infinity.
        """
        if not self._measures:
            return {}
        return self._measures(generate(self._network, self._latents, self._labels))

    def picture(self) -> Tensor:
        """A uint8 image (channels, height, width) of samples of the same latents each time."""
        z, labels, columns = self._shown
        return picture(generate(self._network, z, labels), columns, self._data)

    def real_picture(self) -> Tensor | None:
        """Real images arranged as `picture` is; None where it shows real points itself."""
        if isinstance(self._data, Mixture):
            return None
        count, size = len(self._shown.z), self._data.real_size("train")
        images, _ = self._data.real("train", count if size is None else min(count, size))
        return grid(images, self._shown.columns)


def measures(settings: DictConfig, data: Data) -> Measures:
    """The metrics that a `metrics` group of the configuration asks for.

    Raises:
        UserError: one of them does not fit the data.
    """
    return Measures(
        settings.names,
        data,
        split=settings.split,
        samples=settings.samples,
        cache=settings.cache,
    )


def latents(count: int, latent_dim: int, seed: int, purpose: str = "samples") -> Tensor:
    """Standard normal latents (count, latent_dim), the same on every device."""
    generator = torch.Generator().manual_seed(stream(seed, purpose))
    return torch.randn(count, latent_dim, generator=generator)


class Arranged(NamedTuple):
    """Latents (n, latent_dim) and labels (n,) or None, to be shown in rows of `columns`."""

    z: Tensor
    labels: Tensor | None
    columns: int | None


def arranged(z: Tensor, classes: int) -> Arranged:
    """A row for each class, all of the same latents; as z is where there are no classes."""
    if not classes:
        return Arranged(z, None, None)
    columns, rows = max(len(z) // classes, 1), min(len(z), classes)
    labels = torch.arange(rows, device=z.device).repeat_interleave(columns)
    return Arranged(z[:columns].repeat(rows, 1), labels, columns)


def picture(samples: Tensor, columns: int | None, data: Data) -> Tensor:
    """Images as a grid, points as a plot beside real ones: uint8 (channels, height, width)."""
    if isinstance(data, Mixture):
        return scatter(data.real("train", REAL_POINTS)[0], samples, data.limit)
    return grid(samples, columns)


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor, labels: Tensor | None = None) -> Tensor:
    """Raw samples of latents (n, latent_dim): uint8 images (n, channels, height, width) or
    float32 points (n, 2).

    Args:
        labels: classes (n,), for a conditional generator.

    Raises:
        NotFinite: a sample holds NaN or infinity.
    """
    training = generator.training
    generator.eval()
    parts = []
    for start in range(0, len(z), BATCH):
        part = slice(start, start + BATCH)
        output = generator(z[part]) if labels is None else generator(z[part], labels[part])
        if not output.isfinite().all():
            raise NotFinite("the generator's samples are not finite")
        parts.append(finish(output))
    generator.train(training)
    return torch.cat(parts)
