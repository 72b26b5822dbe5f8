"""The kernel distance between two sets of features, known as KID for Inception's."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.metrics.checks import check_features

_SEED = 0


class KernelDistance(NamedTuple):
    value: float
    error: float
    """The standard error of the value, from the spread over subsets."""


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 50, subset_size: int = 1000
) -> KernelDistance:
    """The squared maximum mean discrepancy with the kernel (x.y / width + 1)^3, unbiased, over
    random subsets (arXiv:1801.01401); 0 on average for samples of one distribution.

    Args:
        real: (n, width). fake: (m, width).
        subsets: how many pairs of subsets; they are the same at every call.
        subset_size: samples in each; all of a smaller set.

    Raises:
        ValueError: the widths differ, a value is not finite, or a set has fewer than 2 samples.
    """
    check_features(real, fake)
    if min(len(real), len(fake), subset_size) < 2:
        raise ValueError(f"needs 2 samples at least, got {len(real)} and {len(fake)}")
    generator = torch.Generator().manual_seed(_SEED)
    real, fake = real.double(), fake.double()
    values = []
    for _ in range(subsets):
        x, y = (
            features[
                torch.randperm(len(features), generator=generator)[:subset_size].to(real.device)
            ]
            for features in (real, fake)
        )
        values.append(_discrepancy(x, y))
    found = torch.stack(values)
    return KernelDistance(float(found.mean()), float(found.std() / subsets**0.5))


def _discrepancy(x: Tensor, y: Tensor) -> Tensor:
    within = sum(_kernel(z, z).fill_diagonal_(0).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
