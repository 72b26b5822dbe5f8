"""The plugin behind hydra/launcher=local."""

from gan.launchers import local
from gan.sweep.hydra_launcher import SweepLauncher


class LocalLauncher(SweepLauncher, local.LocalLauncher):
    """A launcher whose settings stand in conf/hydra/launcher/local.yaml."""
