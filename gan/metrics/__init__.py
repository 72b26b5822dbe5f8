"""Measures of how near generated samples are to real ones."""

from gan.metrics.classes import classifier_score, mode_count, reverse_kl
from gan.metrics.frechet import Moments, frechet_distance, gaussian_distance, moments
from gan.metrics.kernel import KernelDistance, kernel_distance
from gan.metrics.mixture import assign
from gan.metrics.neighbours import PRDC, prdc
from gan.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = [
    "PRDC",
    "KernelDistance",
    "Moments",
    "assign",
    "classifier_score",
    "frechet_distance",
    "gaussian_distance",
    "kernel_distance",
    "mode_count",
    "moments",
    "prdc",
    "reverse_kl",
    "sliced_wasserstein",
]
