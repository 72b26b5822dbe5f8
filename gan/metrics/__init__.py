"""Measures of how near generated samples are to real ones."""
