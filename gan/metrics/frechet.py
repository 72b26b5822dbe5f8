"""The Fréchet distance between two sets of features, known as FID for Inception's."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.metrics.checks import check_features


class Moments(NamedTuple):
    """All that the distance takes from a set of features."""

    mean: Tensor
    """float64 (width,)."""
    covariance: Tensor
    """float64 (width, width), unbiased."""


def moments(features: Tensor) -> Moments:
    """Of features (n, width).

    Raises:
        ValueError: there are no more samples than the width, or a value is not finite.
    """
    if features.dim() != 2 or len(features) <= features.shape[1]:
        shape = tuple(features.shape)
        raise ValueError(f"moments need (n, width) features with n above width, got {shape}")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity")
    features, width = features.double(), features.shape[1]
    return Moments(features.mean(0), torch.cov(features.T).view(width, width))


def gaussian_distance(real: Moments, fake: Moments) -> float:
    """`frechet_distance` of features whose moments are known.

    Raises:
        ValueError: the widths differ.
    """
    if real.mean.shape != fake.mean.shape:
        widths = f"{len(real.mean)} and {len(fake.mean)}"
        raise ValueError(f"need moments of one width, got {widths}")
    means = (real.mean - fake.mean).square().sum()
    # The eigenvalues of AB are those of the symmetric sqrt(A) B sqrt(A).
    root = _root(real.covariance)
    shared = torch.linalg.eigvalsh(root @ fake.covariance @ root).clamp(min=0).sqrt().sum()
    distance = means + real.covariance.trace() + fake.covariance.trace() - 2 * shared
    return float(distance.clamp(min=0))


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """The squared Fréchet distance between Gaussians of the same means and covariances
    (arXiv:1706.08500); 0 for equal sets.

    It is biased upwards for finite sets, the more so the smaller they are: only values of the
    same numbers of samples can be compared.

    Args:
        real: (n, width). fake: (m, width).

    Raises:
        ValueError: the widths differ, a set has no more samples than the width, or a value is
            not finite.
    """
    check_features(real, fake)
    width = real.shape[1]
    if min(len(real), len(fake)) <= width:
        raise ValueError(
            f"a Fréchet distance of {width} features needs more than {width} samples, "
            f"got {len(real)} and {len(fake)}"
        )
    return gaussian_distance(moments(real), moments(fake))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
