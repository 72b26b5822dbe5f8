"""The plugin behind hydra/launcher=slurm."""

from gan.launchers import slurm
from gan.sweep.hydra_launcher import SweepLauncher


class SlurmLauncher(SweepLauncher, slurm.SlurmLauncher):
    """A launcher whose settings stand in conf/hydra/launcher/slurm.yaml."""
