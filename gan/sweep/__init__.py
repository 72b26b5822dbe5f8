"""Sweeps: many runs in one directory, planned before the first starts, and resumable."""

from gan.run import SWEEP_FILE as SWEEP_FILE
