"""Losses, networks, data and more of somebody else."""
