"""What `scripts/benchmark.py` can time."""
