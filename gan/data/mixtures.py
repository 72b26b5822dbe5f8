"""Mixtures of Gaussians in the plane: data sets with modes to count."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from gan.data.base import Modes, check_split, combine_hashes
from gan.data.pictures import scatter
from gan.seeds import derive_seed

EPOCH_SIZE = 100_000
"""Number of samples that count as an epoch, because a mixture has no end."""
REAL_POINTS = 2000
"""Number of real points in a plot."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """Mixture of equally likely Gaussians, as `gan.data.Data`.

    The label of a point is the number of the Gaussian that it was drawn from.
    """

    centers: Tensor
    """Means (k, 2)."""
    std: float
    """Standard deviation of each coordinate."""
    shape: tuple[int, ...] = (2,)
    classifier: str | None = None
    size: int = EPOCH_SIZE

    @property
    def classes(self) -> int:
        """Number of Gaussians."""
        return len(self.centers)

    @property
    def modes(self) -> Modes:
        """The Gaussians."""
        return Modes(self.centers, self.std)

    @property
    def content_hash(self) -> str:
        """Hash of the Gaussians, rounded, as the last digits of a cosine differ by machine."""
        centers = [round(value * 10**4) for value in self.centers.flatten().tolist()]
        return combine_hashes("mixture", centers, (self.std, self.size))

    @property
    def limit(self) -> float:
        """Upper bound for the coordinates of real points, at which the axes of a plot may end."""
        return 1.25 * self.centers.abs().max().item() + 4 * self.std

    def to(self, device: torch.device) -> "Mixture":
        """Return the same mixture on that device."""
        return replace(self, centers=self.centers.to(device))

    def batches(self, batch_size: int, seed: int) -> "MixtureBatches":
        """Return training batches; `seed` decides their points."""
        return MixtureBatches(self, batch_size, seed)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Return points (count, 2) and labels (count,), the same at every call."""
        check_split(split)
        return self.draw(count, derive_seed(0, "real", split))

    def real_size(self, split: str) -> None:
        """Return None: both splits are unlimited."""
        check_split(split)

    def frequencies(self) -> Tensor:
        """Return equal shares of all classes: float64 (classes,)."""
        return torch.full((self.classes,), 1 / self.classes, dtype=torch.float64)

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        """Return a plot of points (n, 2) over real ones; `columns` has no meaning here."""
        ends = (-self.limit, self.limit)
        return scatter(self.real("train", REAL_POINTS)[0], samples, [ends, ends])

    def real_picture(self, count: int, columns: int | None) -> None:
        """Return None: `picture` shows real points itself."""

    def draw(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Draw points (count, 2) and their labels (count,).

        They come from a random generator of their own and are the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(self.classes, (count,), generator=generator)
        noise = torch.randn(count, 2, generator=generator)
        labels, noise = labels.to(self.centers.device), noise.to(self.centers.device)
        return self.centers[labels] + self.std * noise, labels


class MixtureBatches:
    """Batches of newly drawn points."""

    def __init__(self, mixture: Mixture, batch_size: int, seed: int):
        self._mixture, self._batch_size, self._seed = mixture, batch_size, seed
        self.per_epoch = mixture.size // batch_size

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Return points (batch, 2) and labels (batch,) of batch `number`."""
        return self._mixture.draw(self._batch_size, derive_seed(self._seed, "mixture", number))


def ring8() -> Mixture:
    """Return 8 Gaussians on the unit circle, std 0.01 (arXiv:1705.07761, 1712.04086)."""
    angles = torch.arange(8) * (math.tau / 8)
    return Mixture(torch.stack([angles.cos(), angles.sin()], dim=1), std=0.01)


def grid25() -> Mixture:
    """Return 5 x 5 Gaussians, -4 to 4 in steps of 2, std 0.05 (arXiv:1705.07761, 1712.04086)."""
    steps = torch.linspace(-4, 4, 5)
    return Mixture(torch.cartesian_prod(steps, steps), std=0.05)


def spiral() -> Mixture:
    """Return 20 Gaussians at equal distances along the Swiss roll of arXiv:1704.00028, std 0.03.

    The curve is (t cos t, t sin t) / 7.5 for t from 1.5 pi to 4.5 pi. The curve and its width are
    those of that paper's toy data. We put Gaussians on it so that there are modes to count.
    """
    t = np.linspace(1.5 * math.pi, 4.5 * math.pi, 10_000)
    length = (t * np.sqrt(1 + t**2) + np.arcsinh(t)) / 2
    t = np.interp(np.linspace(length[0], length[-1], 20), length, t)
    centers = np.stack([t * np.cos(t), t * np.sin(t)], axis=1) / 7.5
    return Mixture(torch.from_numpy(centers).float(), std=0.03)
