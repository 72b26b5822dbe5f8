"""hydra/launcher=slurm"""

from gan.launchers.hydra_launcher import SweepLauncher


class SlurmLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/slurm.yaml."""
