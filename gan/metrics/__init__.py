"""Measures of how near generated images are to real ones."""

from gan.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = ["sliced_wasserstein"]
