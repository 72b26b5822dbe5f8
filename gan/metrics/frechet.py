"""The Fréchet distance between two sets of features, known as FID for Inception's."""

import torch
from torch import Tensor

from gan.metrics.checks import check_features


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
    real, fake = real.double(), fake.double()
    means = (real.mean(0) - fake.mean(0)).square().sum()
    real_cov, fake_cov = torch.cov(real.T), torch.cov(fake.T)
    # The eigenvalues of AB are those of the symmetric sqrt(A) B sqrt(A).
    root = _root(real_cov)
    shared = torch.linalg.eigvalsh(root @ fake_cov @ root).clamp(min=0).sqrt().sum()
    distance = means + real_cov.trace() + fake_cov.trace() - 2 * shared
    return float(distance.clamp(min=0))


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
