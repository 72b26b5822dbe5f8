"""Mixtures of Gaussians in the plane, whose modes can be counted."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gan.data.base import check_split
from gan.seeds import stream

EPOCH = 100_000
"""Samples that count as an epoch: they never end."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Equally likely Gaussians (`gan.data.Data`): centers (k, 2), std of each coordinate.

    A label is the number of the Gaussian that a point was drawn from.
    """

    centers: Tensor
    std: float
    shape: tuple[int, ...] = (2,)
    classifier: str | None = None
    size: int = EPOCH

    @property
    def classes(self) -> int:
        return len(self.centers)

    @property
    def limit(self) -> float:
        """No coordinate of a real point is beyond it: where a plot may end."""
        return 1.25 * self.centers.abs().max().item() + 4 * self.std

    def to(self, device: torch.device) -> "Mixture":
        return replace(self, centers=self.centers.to(device))

    def batches(self, batch_size: int, seed: int) -> "MixtureBatches":
        return MixtureBatches(self, batch_size, seed)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        check_split(split)
        return self.draw(count, stream(0, "real", split))

    def real_size(self, split: str) -> None:
        check_split(split)

    def frequencies(self) -> Tensor:
        return torch.full((self.classes,), 1 / self.classes, dtype=torch.float64)

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Points (count, 2) and labels (count,): the same on every device, from a generator of
        their own."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(self.classes, (count,), generator=generator)
        noise = torch.randn(count, 2, generator=generator)
        labels, noise = labels.to(self.centers.device), noise.to(self.centers.device)
        return self.centers[labels] + self.std * noise, labels


class MixtureBatches:
    """Every batch is drawn anew."""

    def __init__(self, mixture: Mixture, batch_size: int, seed: int):
        self._mixture, self._batch_size, self._seed = mixture, batch_size, seed
        self.per_epoch = mixture.size // batch_size

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        return self._mixture.draw(self._batch_size, stream(self._seed, "mixture", number))


def ring8() -> Mixture:
    """8 Gaussians on the unit circle, std 0.01 (arXiv:1705.07761, 1712.04086)."""
    angles = torch.arange(8) * (math.tau / 8)
    return Mixture(torch.stack([angles.cos(), angles.sin()], dim=1), std=0.01)


def grid25() -> Mixture:
    """5 x 5 Gaussians, -4 to 4 in steps of 2, std 0.05 (arXiv:1705.07761, 1712.04086)."""
    steps = torch.linspace(-4, 4, 5)
    return Mixture(torch.cartesian_prod(steps, steps), std=0.05)


def spiral() -> Mixture:
    """20 Gaussians at equal distances along the Swiss roll of arXiv:1704.00028, std 0.03.

    The curve, (t cos t, t sin t) / 7.5 for t from 1.5 pi to 4.5 pi, and its width are those of
    that paper's toy data; breaking it into Gaussians gives it modes to count.
    """
    t = np.linspace(1.5 * math.pi, 4.5 * math.pi, 10_000)
    length = (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2
    t = np.interp(np.linspace(length[0], length[-1], 20), length, t)
    centers = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5
    return Mixture(torch.from_numpy(centers).float(), std=0.03)
