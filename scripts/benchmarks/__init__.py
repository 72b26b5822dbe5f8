"""Timings for `scripts/benchmark.py`."""
