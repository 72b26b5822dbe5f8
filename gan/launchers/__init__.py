"""Launchers: they execute runs on this machine, on a Slurm cluster or on a Ray cluster."""
