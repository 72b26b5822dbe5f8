"""Metrics of the classes of generated samples, and of the modes of a mixture of Gaussians."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import in_double

REACH = 3.0
"""Standard deviations from its mode within which a point is of high quality."""


class Classes(NamedTuple):
    """Classes that samples belong to."""

    labels: Tensor
    """Number of each sample's class, int64 (n,)."""
    high_quality: Tensor
    """Mask of the points that lie within `REACH` of their mode, bool (n,). True for all images."""


def classifier_score(probabilities: Tensor) -> float:
    """Return the Inception score (arXiv:1606.03498) of any classifier's probabilities.

    It is the exponential of the mean divergence of each sample's class probabilities from their
    mean over all samples: from 1 to the number of classes.

    Args:
        probabilities: (n, classes); each row sums to 1.
    """
    p = in_double(probabilities).clamp(min=1e-30)
    return float((p * (p.log() - p.mean(0).log())).sum(1).mean().exp())


class InceptionScore(NamedTuple):
    """An Inception score and how sure it is."""

    value: float
    """The mean over parts of the samples."""
    standard_error: float
    """The standard deviation over the parts, divided by the root of their number. Papers print the
    standard deviation itself."""


def inception_score(probabilities: Tensor, *, parts: int = 10) -> InceptionScore:
    """Return the Inception score (arXiv:1606.03498): the mean of `classifier_score` over ten equal
    parts of the samples, in their order.

    Args:
        probabilities: Inception's, (n, classes); each row sums to 1.
        parts: number of parts; ten is what papers use.

    Raises:
        ValueError: there are fewer samples than parts.
    """
    count = len(probabilities)
    if count < parts:
        raise ValueError(f"{parts} parts need as many samples, got {count}")
    ends = [number * count // parts for number in range(parts + 1)]
    scores = torch.tensor(
        [classifier_score(probabilities[a:b]) for a, b in pairwise(ends)], dtype=torch.float64
    )
    return InceptionScore(float(scores.mean()), float(scores.std(correction=0) / parts**0.5))


def mode_count(labels: Tensor, classes: int) -> int:
    """Return the number of classes that occur among labels (n,)."""
    return int((torch.bincount(labels, minlength=classes) > 0).sum())


def reverse_kl(labels: Tensor, frequencies: Tensor) -> float:
    """Return the divergence KL(fake || real) of the class frequencies of samples from the real
    ones, in nats (arXiv:1705.07761 uses it for stacked MNIST).

    A perfect generator gets about (classes - 1) / 2n from n samples, not 0.

    Args:
        labels: classes of the samples (n,).
        frequencies: how often each class is real (classes,). The divergence is infinite if a
            sample's class is never real.
    """
    counts = torch.bincount(labels.cpu(), minlength=len(frequencies)).double()
    seen = counts > 0
    p, q = (counts / counts.sum())[seen], frequencies.cpu().double()[seen]
    return float((p * (p / q).log()).sum())


def nearest_modes(points: Tensor, centers: Tensor, std: float) -> Classes:
    """Return the nearest mode of each point, and whether the point is of high quality: within
    three standard deviations of that mode (arXiv:1705.07761).

    Of a mixture's own points 1 - exp(-4.5) = 0.989 are of high quality.

    Args:
        points: (n, 2).
        centers: of the modes, (k, 2).
        std: the standard deviation of each coordinate.
    """
    distance, nearest = torch.cdist(in_double(points), in_double(centers)).min(1)
    return Classes(nearest, high_quality=distance <= REACH * std)
