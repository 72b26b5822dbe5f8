"""Many runs in one directory: planned, run side by side, resumed."""

SWEEP_FILE = "sweep.json"
"""What makes a directory a sweep's."""
