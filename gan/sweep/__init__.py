"""Sweeps: many runs in one directory, planned before the first starts, and resumable."""

SWEEP_FILE = "sweep.json"
"""The file that makes a directory a sweep directory."""
