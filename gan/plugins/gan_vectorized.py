"""hydra/launcher=vectorized"""

from gan.sweep.launcher import SweepLauncher


class VectorizedLauncher(SweepLauncher):
    """The settings are those of conf/hydra/launcher/vectorized.yaml."""
