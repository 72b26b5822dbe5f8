"""Fidelity and variety of generated samples, from distances to nearest neighbours."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import in_double
from gan.metrics.frechet import check_features

K = 5
"""Number of nearest neighbours, as in arXiv:2002.09797."""
CHUNK = 512
"""Rows of distances that are in memory at once. A measurement found less than 50 bytes for each
row and each sample of the larger set, whatever its size: some 100 MB for 10,000 samples."""


class PRDC(NamedTuple):
    """Precision, recall, density and coverage. The ball of a sample reaches to its k-th nearest
    neighbour in its own set."""

    precision: float
    """The part of the fake samples that lie in the ball of any real one."""
    recall: float
    """The part of the real samples that lie in the ball of any fake one."""
    density: float
    """The number of real balls that a fake sample lies in, over k: about 1 for real samples."""
    coverage: float
    """The part of the real balls that hold a fake sample: about 1 - 2^-k for real samples."""


def prdc(real: Tensor, fake: Tensor, *, k: int = K) -> PRDC:
    """Return precision and recall (arXiv:1904.06991), density and coverage (arXiv:2002.09797).

    Args:
        real: features (n, width).
        fake: features (m, width).
        k: number of nearest neighbours that a ball reaches to.

    Raises:
        ValueError: the widths differ, a value is not finite, or a set has no more than k samples.
    """
    check_features(real, fake)
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"k={k} neighbours need more samples, got {len(real)} and {len(fake)}")
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=real.device)
    recalled = covered = 0
    for start in range(0, len(real), CHUNK):
        part = slice(start, start + CHUNK)
        distances = torch.cdist(real[part], fake)
        balls += (distances < real_radii[part, None]).sum(0, dtype=torch.int32)
        recalled += int((distances < fake_radii).any(1).sum())
        covered += int((distances.amin(1) < real_radii[part]).sum())
    return PRDC(
        precision=float(in_double(balls > 0).mean()),
        recall=recalled / len(real),
        density=float(in_double(balls).mean() / k),
        coverage=covered / len(real),
    )


def _radii(points: Tensor, k: int) -> Tensor:
    """Return the distance of each point to its k-th nearest neighbour (n,)."""
    parts = []
    for part in points.split(CHUNK):
        # The nearest of all is the point itself, so there is one more to look at.
        nearest = torch.cdist(part, points).topk(k + 1, dim=1, largest=False, sorted=True)
        parts.append(nearest.values[:, -1])
    return torch.cat(parts)
