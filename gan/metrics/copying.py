"""Copies of training samples among generated ones."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import in_double

CHUNK = 512
"""Rows of distances that are in memory at once."""


class Nearest(NamedTuple):
    """The training samples nearest to each of some samples, the nearest one first."""

    distances: Tensor
    """Euclidean, (n, k)."""
    indices: Tensor
    """Numbers of the training samples, int64 (n, k)."""


class DataCopying(NamedTuple):
    """The share of pairs in which a generated sample is the nearer one to the training samples."""

    value: float
    standard_error: float
    """The standard deviation that the value has if both sets come from one distribution."""


def nearest(samples: Tensor, training: Tensor, *, k: int = 1) -> Nearest:
    """Return the k training samples (m, d) that are nearest to each of the samples (n, d).

    Raises:
        ValueError: there are fewer than k training samples, or the shapes do not fit.
    """
    if samples.dim() != 2 or samples.shape[1:] != training.shape[1:] or not 0 < k <= len(training):
        shapes = f"{tuple(samples.shape)} and {tuple(training.shape)}"
        raise ValueError(f"need (n, d) samples, (m, d) training samples and k <= m, got {shapes}")
    parts = [
        torch.cdist(part, training).topk(k, dim=1, largest=False, sorted=True)
        for part in samples.split(CHUNK)
    ]
    distances, indices = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Nearest(distances, indices)


def data_copying(fake: Tensor, held_out: Tensor) -> DataCopying:
    """Return the share of pairs of a generated and a held-out sample in which the generated one is
    the nearer one to its nearest training sample (arXiv:2004.05675). An equal pair counts half.

    It is about 0.5 for samples as new as held-out ones, 1 for copies, and less than 0.5 for samples
    that are far from the training samples. The paper's statistic is the distance of this value
    from 0.5 in standard errors, with the other sign.

    Args:
        fake: distances of generated samples to their nearest training samples (m,).
        held_out: the same of held-out samples (n,).

    Raises:
        ValueError: a set is empty.
    """
    m, n = len(fake), len(held_out)
    if not (m and n):
        raise ValueError(f"need generated and held-out samples, got {m} and {n}")
    fake, ordered = in_double(fake).contiguous(), in_double(held_out).sort().values
    nearer = n - torch.searchsorted(ordered, fake, right=True)
    not_farther = n - torch.searchsorted(ordered, fake, right=False)
    share = in_double(nearer + not_farther).mean() / (2 * n)
    return DataCopying(float(share), ((m + n + 1) / (12 * m * n)) ** 0.5)
