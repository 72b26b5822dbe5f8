"""hydra/launcher=ray"""

from gan.sweep.launcher import SweepLauncher


class RayLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/ray.yaml."""
