"""hydra/launcher=vectorized"""

from gan.launchers.hydra_launcher import SweepLauncher


class VectorizedLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/vectorized.yaml."""
