"""The sliced Wasserstein distance between two sets of vectors."""

import torch
from torch import Tensor

from gan.arithmetic import in_double

LINES = 256
"""Number of random lines, which are the same at every call."""
_SEED = 0


def sliced_wasserstein(real: Tensor, fake: Tensor) -> float:
    """Return the sliced Wasserstein distance (arXiv:1803.11188).

    Both sets are projected onto random lines. The distance is the root mean square, over the
    lines, of the Wasserstein-2 distance on the line. It is 0 for equal sets, and above 0 for two
    finite samples of one distribution. It has the unit of the vectors, needs no classifier, and
    rises with noise as well as with missing modes.

    Args:
        real: (n, dimensions).
        fake: (n, dimensions).

    Raises:
        ValueError: the shapes differ.
    """
    if real.shape != fake.shape or real.dim() != 2:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"need two (n, dimensions) sets of one shape, got {shapes}")
    generator = torch.Generator().manual_seed(_SEED)
    lines = torch.randn(real.shape[1], LINES, generator=generator, dtype=torch.float64)
    lines = (lines / lines.norm(dim=0)).to(real)
    difference = (real @ lines).sort(dim=0)[0] - (fake @ lines).sort(dim=0)[0]
    return float(in_double(difference).square().mean().sqrt())
