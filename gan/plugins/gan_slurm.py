"""hydra/launcher=slurm"""

from gan.sweep.launcher import SweepLauncher


class SlurmLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/slurm.yaml."""
