"""Metrics: numbers that tell how near generated samples are to real ones."""
