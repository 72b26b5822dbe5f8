"""Measuring and showing a generator, without touching the training it is part of."""

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan import metrics
from gan.build import Parts
from gan.data import to_float, to_uint8
from gan.seeds import stream

BATCH = 1000
"""Images made at once."""


class Evaluation:
    """Latents and real images that stay the same throughout a run.

    `measure` and `samples` return the generator to the mode it was in and draw no random
    numbers.
    """

    def __init__(self, cfg: DictConfig, parts: Parts):
        self._names = list(cfg.metrics.names)
        self._generator = parts.generator
        chosen = torch.Generator().manual_seed(stream(cfg.seed, "evaluation"))
        count = cfg.metrics.samples if self._names else 0
        order = torch.randperm(len(parts.data.images), generator=chosen)[:count].to(parts.device)
        self._real = _features(parts.data.images[order])
        self._latents = torch.randn(count, cfg.model.latent_dim, generator=chosen).to(parts.device)
        self._shown = latents(cfg.logging.samples, cfg.model.latent_dim, cfg.seed).to(parts.device)

    def measure(self) -> dict[str, float]:
        """Each of the configured metrics by name."""
        if not self._names:
            return {}
        fake = _features(generate(self._generator, self._latents))
        return {name: getattr(metrics, name)(self._real, fake) for name in self._names}

    def samples(self) -> Tensor:
        """uint8 images (n, channels, height, width) of the same latents each time."""
        return generate(self._generator, self._shown)


def latents(count: int, latent_dim: int, seed: int) -> Tensor:
    """Standard normal latents (count, latent_dim), the same on every device."""
    generator = torch.Generator().manual_seed(stream(seed, "samples"))
    return torch.randn(count, latent_dim, generator=generator)


@torch.no_grad()
def generate(generator: nn.Module, z: Tensor) -> Tensor:
    """uint8 images (n, channels, height, width) of latents (n, latent_dim)."""
    training = generator.training
    generator.eval()
    images = torch.cat([to_uint8(generator(part)) for part in z.split(BATCH)])
    generator.train(training)
    return images


def _features(images: Tensor) -> Tensor:
    """Pixels as points; generated images are rounded to whole pixels as real ones are."""
    return to_float(images).flatten(1)
