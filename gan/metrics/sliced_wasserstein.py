"""The sliced Wasserstein distance."""

import torch
from torch import Tensor

DIRECTIONS = 256
_SEED = 0


def sliced_wasserstein(real: Tensor, fake: Tensor) -> float:
    """The root mean square, over random lines, of the Wasserstein-2 distance between two sets
    of points projected onto the line (arXiv:1803.11188); 0 for equal sets.

    It needs no classifier and notices noise as well as missing modes. It has the unit of the
    points, and a floor above 0 for two finite samples of one distribution.

    Args:
        real, fake: two sets of n points, (n, dimensions) each.

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape or real.dim() != 2:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"need two (n, dimensions) sets of one shape, got {shapes}")
    generator = torch.Generator().manual_seed(_SEED)
    lines = torch.randn(real.shape[1], DIRECTIONS, generator=generator, dtype=torch.float64)
    lines = (lines / lines.norm(dim=0)).to(real)
    difference = (real @ lines).sort(dim=0)[0] - (fake @ lines).sort(dim=0)[0]
    return float(difference.double().square().mean().sqrt())
