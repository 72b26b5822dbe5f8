"""Which classes samples are of, and how evenly."""

import torch
from torch import Tensor


def classifier_score(probabilities: Tensor) -> float:
    """The exponential of the mean divergence of each sample's class probabilities from their
    mean: from 1 up to the number of classes (the Inception score of arXiv:1606.03498, over any
    classifier).

    Args:
        probabilities: (n, classes), each row summing to 1.
    """
    p = probabilities.double().clamp(min=1e-30)
    return float((p * (p.log() - p.mean(0).log())).sum(1).mean().exp())


def mode_count(labels: Tensor, classes: int) -> int:
    """How many of the classes have a sample, given the samples' labels (n,)."""
    return int((torch.bincount(labels, minlength=classes) > 0).sum())


def reverse_kl(labels: Tensor, frequencies: Tensor) -> float:
    """The divergence of the samples' class frequencies from the real ones, KL(fake || real), in
    nats (as for stacked MNIST in arXiv:1705.07761).

    A perfect sampler of n samples does not reach 0, but about (classes - 1) / 2n.

    Args:
        labels: of samples (n,).
        frequencies: of the real classes (classes,); a sample of a class of none makes it infinite.
    """
    counts = torch.bincount(labels.cpu(), minlength=len(frequencies)).double()
    seen = counts > 0
    p, q = (counts / counts.sum())[seen], frequencies.cpu().double()[seen]
    return float((p * (p / q).log()).sum())
