"""The plugin behind hydra/launcher=ray."""

from gan.launchers import ray
from gan.sweep.hydra_launcher import SweepLauncher


class RayLauncher(SweepLauncher, ray.RayLauncher):
    """A launcher whose settings stand in conf/hydra/launcher/ray.yaml."""
