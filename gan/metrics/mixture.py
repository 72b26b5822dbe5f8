"""Points of a mixture of Gaussians in the plane: which mode each belongs to, and how well."""

import torch
from torch import Tensor

REACH = 3.0
"""Standard deviations from its mode within which a point is of high quality."""


def assign(points: Tensor, centers: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """The nearest mode of each point, and whether it is of high quality: within three standard
    deviations (arXiv:1705.07761).

    Args:
        points: (n, 2). centers: (modes, 2). std: of each coordinate.

    Returns:
        int64 (n,) and bool (n,). Of the mixture's own points 1 - exp(-4.5) = 0.989 are true.
    """
    distance, nearest = torch.cdist(points.double(), centers.double()).min(1)
    return nearest, distance <= REACH * std
