"""Where runs are executed: on this machine, by Slurm or by Ray."""
