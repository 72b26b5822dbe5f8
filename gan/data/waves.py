"""Sine waves: a data set of series whose distribution is known."""

import math

import numpy as np

from gan.data.floats import SeriesData, series_data
from gan.seeds import derive_seed

COUNT = 20_000
LENGTH = 64
FREQUENCIES = (1, 2, 3, 4)
RESOLUTION = 2**12
"""Steps from 0 to 1 to which values are rounded. The last digits of a sine differ between
machines, and the data should not."""


def waves() -> SeriesData:
    """Make 20,000 series (1, 64) of a sin(2 pi (f t + p)) at t = 0, 1/64, ..., 63/64.

    The frequency f is 1, 2, 3 or 4, each equally likely, and makes the class f - 1. The amplitude a
    is uniform from 0.5 to 1, and the phase p uniform from 0 to 1. The waves are always the same.
    """
    random = np.random.Generator(np.random.PCG64(derive_seed(0, "waves")))
    # The bits of the generator are the same on every machine and in every version of numpy.
    uniform = (random.bit_generator.random_raw(3 * COUNT) >> 11).reshape(3, COUNT, 1) / 2.0**53
    labels = (uniform[0, :, 0] * len(FREQUENCIES)).astype(np.int64)
    frequency = np.array(FREQUENCIES)[labels][:, None]
    amplitude, phase = 0.5 + 0.5 * uniform[1], uniform[2]
    t = np.arange(LENGTH) / LENGTH
    values = amplitude * np.sin(2 * math.pi * (frequency * t + phase))
    return series_data(np.round(values * RESOLUTION)[:, None] / RESOLUTION, labels)
