"""The directory of one run, and everything that is written to it."""
