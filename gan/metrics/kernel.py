"""The kernel distance between two sets of features, known as KID for Inception's."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.metrics.checks import check_features

LEAST = 4
"""Samples in a set."""
_SEED = 0


class KernelDistance(NamedTuple):
    value: float
    error: float
    """The standard error of the value, were both sets drawn anew."""


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 50, subset_size: int = 1000
) -> KernelDistance:
    """The squared maximum mean discrepancy with the kernel (x.y / width + 1)^3, unbiased, over
    random subsets (arXiv:1801.01401); 0 on average for samples of one distribution.

    Args:
        real: (n, width). fake: (m, width).
        subsets: how many pairs of subsets; they are the same at every call.
        subset_size: samples in each; of a smaller set one half, as the spread over subsets tells
            the error and that of whole sets is 0.

    Raises:
        ValueError: the widths differ, a value is not finite, a set has fewer than 4 samples, or
            there are fewer than 2 subsets of 2.
    """
    check_features(real, fake)
    least = min(len(real), len(fake))
    size = min(subset_size, least // 2)
    if min(size, subsets) < 2:
        raise ValueError(
            f"a kernel distance needs {LEAST} samples and 2 subsets of 2, got {len(real)} and "
            f"{len(fake)} for {subsets} of {subset_size}"
        )
    generator = torch.Generator().manual_seed(_SEED)
    real, fake = real.double(), fake.double()
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:size].to(real.device)]
            for features in (real, fake)
        )
        values.append(_discrepancy(x, y))
    found = torch.stack(values)
    # Subsets share samples: their mean is no surer than the sets that they are drawn from.
    part = size / least
    error = found.std() * (1 / subsets + part / (1 - part)) ** 0.5
    return KernelDistance(float(found.mean()), float(error))


def _discrepancy(x: Tensor, y: Tensor) -> Tensor:
    within = sum(_kernel(z, z).fill_diagonal_(0).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
