"""hydra/launcher=ray"""

from gan.launchers.hydra_launcher import SweepLauncher


class RayLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/ray.yaml."""
