"""The plugin behind hydra/launcher=vectorized."""

from gan.launchers import vectorized
from gan.sweep.hydra_launcher import SweepLauncher


class VectorizedLauncher(SweepLauncher, vectorized.VectorizedLauncher):
    """A launcher whose settings stand in conf/hydra/launcher/vectorized.yaml."""
