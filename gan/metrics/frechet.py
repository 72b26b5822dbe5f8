"""The Fréchet distance between two sets of features. On features of Inception it is the FID."""

from typing import NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import in_double


class Moments(NamedTuple):
    """Mean and covariance of a set of features: all that the distance needs to know of it."""

    mean: Tensor
    """float64 (width,)."""
    covariance: Tensor
    """float64 (width, width), unbiased."""


def moments(features: Tensor) -> Moments:
    """Return the mean and covariance of features (n, width).

    Raises:
        ValueError: n is not above the width, or a value is not finite.
    """
    if features.dim() != 2 or len(features) <= features.shape[1]:
        shape = tuple(features.shape)
        raise ValueError(f"moments need (n, width) features with n above width, got {shape}")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity")
    features, width = in_double(features), features.shape[1]
    return Moments(features.mean(0), torch.cov(features.T).view(width, width))


def gaussian_distance(real: Moments, fake: Moments) -> float:
    """Return the `frechet_distance` of two sets of features from their moments.

    Raises:
        ValueError: the widths differ.
    """
    if real.mean.shape != fake.mean.shape:
        widths = f"{len(real.mean)} and {len(fake.mean)}"
        raise ValueError(f"need moments of one width, got {widths}")
    means = (real.mean - fake.mean).square().sum()
    # The eigenvalues of AB are those of the symmetric sqrt(A) B sqrt(A).
    root = _square_root(real.covariance)
    shared = torch.linalg.eigvalsh(root @ fake.covariance @ root).clamp(min=0).sqrt().sum()
    distance = means + real.covariance.trace() + fake.covariance.trace() - 2 * shared
    return float(distance.clamp(min=0))


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Return the squared Fréchet distance between two Gaussians that have the means and
    covariances of the features (arXiv:1706.08500). It is 0 for equal sets.

    Finite sets bias it upwards, and small sets more than large ones. Compare only values that come
    from the same numbers of samples.

    Args:
        real: (n, width).
        fake: (m, width).

    Raises:
        ValueError: the widths differ, n or m is not above the width, or a value is not finite.
    """
    check_features(real, fake)
    width = real.shape[1]
    if min(len(real), len(fake)) <= width:
        raise ValueError(
            f"a Fréchet distance of {width} features needs more than {width} samples, "
            f"got {len(real)} and {len(fake)}"
        )
    return gaussian_distance(moments(real), moments(fake))


def check_features(real: Tensor, fake: Tensor) -> None:
    """Check that two sets of features can be compared.

    Raises:
        ValueError: they are not of shape (n, width) and (m, width), or a value is not finite.
    """
    if real.dim() != 2 or fake.dim() != 2 or real.shape[1] != fake.shape[1]:
        shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
        raise ValueError(f"need two (n, width) sets of one width, got {shapes}")
    for name, features in (("real", real), ("fake", fake)):
        if not features.isfinite().all():
            raise ValueError(f"{name} features hold NaN or infinity")


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
