"""Measuring and showing a generator without touching the training that it is part of."""

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gan.arithmetic import exact_matmul
from gan.build import Parts, call_target
from gan.config.checks import plain
from gan.config.schema import settings_of
from gan.data import Data, to_raw_samples
from gan.errors import NotFinite, UserError
from gan.metrics.diversity import Diversity
from gan.metrics.evaluator import Evaluator
from gan.metrics.features import FeatureExtractor, as_extractor
from gan.run.pictures import LARGEST_GRID
from gan.run.provenance import code_hashes
from gan.seeds import derive_seed, seeded

BATCH_SIZE = 1000
"""The number of samples that are generated at once."""


class Evaluation:
    """The metrics and pictures of one run, from latents that stay the same throughout it.

    It uses the averaged weights if the run has such. The networks and metrics that draw random
    numbers draw the same ones each time, and none of those of training. The network stays in the
    mode in which it was.
    """

    def __init__(self, cfg: DictConfig, parts: Parts):
        _refuse_large_grid(cfg.logging.samples, parts.data.shape)
        self._data, self._seed, self._device = parts.data, cfg.seed, parts.device
        self._generator = parts.averaged_generator or parts.generator
        self._weights = "average" if parts.averaged_generator else "generator"
        self._evaluator = None
        if cfg.metrics.names:
            extractor = make_extractor(cfg.get("features"), parts.data)
            self._evaluator = make_evaluator(cfg.metrics, parts.data, extractor)
        count = cfg.metrics.samples if self._evaluator else 0
        z = draw_latents(count, parts.latent_dim, cfg.seed, "evaluation")
        self._latents = z.to(parts.device)
        self._labels = None
        if parts.conditional and self._evaluator:
            self._labels = self._evaluator.labels_like_real(count)
        self._diversity = Diversity(parts.data)
        z = draw_latents(self._diversity.count, parts.latent_dim, cfg.seed, "diversity")
        self._few = z.to(parts.device)
        self._few_labels = self._diversity.labels if parts.conditional else None
        self._grid = arrange_latents(
            draw_latents(cfg.logging.samples, parts.latent_dim, cfg.seed).to(parts.device),
            parts.data.classes if parts.conditional else 0,
        )

    @property
    def facts(self) -> dict[str, object]:
        """The weights, samples and features that the metrics depend on."""
        return {"weights": self._weights} | (self._evaluator.facts if self._evaluator else {})

    def measure(self) -> dict[str, float]:
        """Return the configured metrics by name.

        Raises:
            NotFinite: a sample holds NaN or infinity.
        """
        if not self._evaluator:
            return {}
        samples = generate(self._generator, self._latents, self._labels, seed=self._seed)
        with seeded(derive_seed(self._seed, "metrics"), self._device):
            return self._evaluator(samples)

    def diversity(self) -> dict[str, float]:
        """Return how diverse a few samples are, see `Diversity`.

        Raises:
            NotFinite: a sample holds NaN or infinity.
        """
        with exact_matmul():
            return self._diversity(
                generate(self._generator, self._few, self._few_labels, seed=self._seed)
            )

    def picture(self) -> Tensor:
        """Return a picture of samples, uint8 (channels, height, width).

        Raises:
            NotFinite: a sample holds NaN or infinity.
        """
        z, labels, columns = self._grid
        samples = generate(self._generator, z, labels, seed=self._seed)
        return self._data.picture(samples, columns)

    def real_picture(self) -> Tensor | None:
        """Return real samples in the arrangement of `picture`; None if it shows them itself."""
        return self._data.real_picture(len(self._grid.z), self._grid.columns)


class LatentGrid(NamedTuple):
    """Latents (n, latent_dim) and labels (n,) or None, in the order in which they are shown."""

    z: Tensor
    labels: Tensor | None
    columns: int | None
    """The number of samples in a row; None makes the grid about square."""


def make_evaluator(
    settings: DictConfig, data: Data, extractor: FeatureExtractor | None = None
) -> Evaluator:
    """Return the evaluator of the metrics that the settings of the group `metrics` name.

    Args:
        extractor: the result of `make_extractor`.

    Raises:
        UserError: a metric does not fit the data or the features.
    """
    return Evaluator(
        settings.names,
        data,
        split=settings.split,
        samples=settings.samples,
        cache=settings.cache,
        # Runs of earlier versions have no such keys.
        real=settings.get("real", "same"),
        extractor=extractor,
        protocol=settings.get("protocol"),
    )


def _refuse_large_grid(count: int, shape: Sequence[int]) -> None:
    """Refuse a picture of samples that is too large for programs that show pictures.

    Raises:
        UserError: says how many samples would fit.
    """
    if len(shape) != 3:
        return
    _, height, width = shape
    pixels = (height + 2) * (width + 2)
    if count * pixels > LARGEST_GRID:
        raise UserError(
            f"logging.samples={count}: as many images of {width}x{height} pixels make too large a "
            f"picture; allowed are at most {max(1, LARGEST_GRID // pixels)}"
        )


def make_extractor(settings: DictConfig | None, data: Data) -> FeatureExtractor | None:
    """Return the feature extractor that the settings of the group `features` name; None where the
    data choose it.

    Raises:
        UserError: it cannot be made, or does not fit the data.
    """
    # Runs of earlier versions have no such group.
    target = settings and settings.get("_target_")
    if settings is None or not target:
        return None
    made = call_target("features", plain(settings), image_shape=data.shape)
    # Weights count by their content, and code by its hash, wherever both lie.
    values = {key: value for key, value in plain(settings).items() if not _is_path(target, key)}
    origin = json.dumps([values, code_hashes({"features._target_": target})], default=str)
    try:
        return as_extractor(made, target, origin, data.real("train", 1)[0])
    except UserError as error:
        raise UserError(f"features._target_={target}: {error}") from error


def _is_path(target: str, key: str) -> bool:
    settings = settings_of("features", target)
    return key in settings and "path" in settings[key].limits


def draw_latents(
    count: int,
    latent_dim: int,
    seed: int,
    purpose: str = "samples",
    truncation: float | None = None,
) -> Tensor:
    """Return standard normal latents (count, latent_dim), the same on every device.

    Args:
        truncation: values beyond this threshold, in either direction, are drawn again until they
            lie within it (arXiv:1809.11096). The others stay as they are. None keeps all.

    Raises:
        UserError: the threshold is not above 0.
    """
    if truncation is not None and not truncation > 0:
        raise UserError(f"truncation={truncation}: must be above 0, or null")
    generator = torch.Generator().manual_seed(derive_seed(seed, purpose))
    z = torch.randn(count, latent_dim, generator=generator)
    if truncation is None:
        return z
    # To draw again and again would take for ever for a low threshold. The inverse of the normal
    # distribution gives numbers within it at once.
    uniform = torch.rand(z.shape, generator=generator, dtype=torch.float64) * 2 - 1
    within = math.sqrt(2) * torch.erfinv(uniform * math.erf(truncation / math.sqrt(2)))
    return z.where(z.abs() <= truncation, within.float().clamp(-truncation, truncation))


def arrange_latents(z: Tensor, classes: int) -> LatentGrid:
    """Arrange latents in a row for each class, the same latents in every row.

    Where that would make a narrow tower, because there are many classes and few samples of each,
    several classes share a row.

    Args:
        classes: 0 leaves the latents as they are.
    """
    if not classes:
        return LatentGrid(z, None, None)
    columns, rows = max(len(z) // classes, 1), min(len(z), classes)
    labels = torch.arange(rows, device=z.device).repeat_interleave(columns)
    classes_in_row = max(math.isqrt(len(labels)) // columns, 1)
    return LatentGrid(z[:columns].repeat(rows, 1), labels, columns * classes_in_row)


@torch.no_grad()
def generate(
    generator: nn.Module, z: Tensor, labels: Tensor | None = None, *, seed: int = 0
) -> Tensor:
    """Return raw samples of latents (n, latent_dim), computed in fp32.

    Args:
        labels: classes (n,), for a conditional generator.
        seed: decides the random numbers that the generator draws itself.

    Returns:
        uint8 images (n, channels, height, width), or other float32 samples (n, *shape).

    Raises:
        NotFinite: a sample holds NaN or infinity.
    """
    was_training = generator.training
    generator.eval()
    batches = []
    try:
        with exact_matmul(), seeded(derive_seed(seed, "inside the generator"), z.device):
            for start in range(0, len(z), BATCH_SIZE):
                part = slice(start, start + BATCH_SIZE)
                output = generator(z[part]) if labels is None else generator(z[part], labels[part])
                if not output.isfinite().all():
                    raise NotFinite("the generator's samples are not finite")
                batches.append(to_raw_samples(output))
    finally:
        generator.train(was_training)
    return torch.cat(batches)
