"""A metric of images."""

from gan.metrics.catalogue import ANY_DATA, Direction, Metric


def _brightness_gap(comparison):
    real, fake = comparison.real.vectors, comparison.fake.vectors
    return float((real.mean() - fake.mean()).abs())


brightness_gap = Metric("brightness_gap", Direction.MINIMIZE, ANY_DATA, _brightness_gap)
