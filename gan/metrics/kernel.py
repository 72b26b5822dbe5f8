"""The kernel distance between two sets of features. On features of Inception it is the KID."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import in_double
from gan.metrics.frechet import check_features

MIN_SAMPLES = 4
"""Samples that each set must have."""
_SEED = 0


class KernelDistance(NamedTuple):
    """A kernel distance and how sure it is."""

    value: float
    standard_error: float
    """The standard deviation that the value would have if both sets were drawn anew."""


def kernel_distance(
    real: Tensor, fake: Tensor, *, subsets: int = 50, subset_size: int = 1000
) -> KernelDistance:
    """Return the squared maximum mean discrepancy with the kernel (x.y / width + 1)^3, as the mean
    of unbiased estimates on random subsets (arXiv:1801.01401).

    Samples of one distribution get 0 on average, and may get less than 0.

    Args:
        real: (n, width).
        fake: (m, width).
        subsets: number of pairs of subsets, which are the same at every call.
        subset_size: samples in each subset, but at most half of the smaller set: the standard
            error comes from the spread over subsets, and whole sets would have none.

    Raises:
        ValueError: the widths differ, a value is not finite, a set has fewer than 4 samples, or
            there are fewer than 2 subsets of 2.
    """
    check_features(real, fake)
    smaller = min(len(real), len(fake))
    size = min(subset_size, smaller // 2)
    if min(size, subsets) < 2:
        raise ValueError(
            f"a kernel distance needs {MIN_SAMPLES} samples and 2 subsets of 2, "
            f"got {len(real)} and {len(fake)} for {subsets} of {subset_size}"
        )
    generator = torch.Generator().manual_seed(_SEED)
    real, fake = in_double(real), in_double(fake)
    values = []
    for _ in range(subsets):
        x, y = (
            features[torch.randperm(len(features), generator=generator)[:size].to(real.device)]
            for features in (real, fake)
        )
        values.append(_discrepancy(x, y))
    estimates = torch.stack(values)
    # Subsets share samples, so more of them do not make up for the limited number of samples.
    part = size / smaller
    standard_error = estimates.std() * (1 / subsets + part / (1 - part)) ** 0.5
    return KernelDistance(float(estimates.mean()), float(standard_error))


def _discrepancy(x: Tensor, y: Tensor) -> Tensor:
    within = sum(_kernel(z, z).fill_diagonal_(0).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    return within - 2 * _kernel(x, y).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3
