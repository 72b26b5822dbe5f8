"""hydra/launcher=local"""

from gan.launchers.hydra_launcher import SweepLauncher


class LocalLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/local.yaml."""
