"""The directory of one run, and everything that is written to it."""

SWEEP_FILE = "sweep.json"
"""The file that makes the folder above runs a sweep directory."""
