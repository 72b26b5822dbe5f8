"""Generator and discriminator networks."""

from gan.models.mlp import Discriminator, Generator, mlp_pair

__all__ = ["Discriminator", "Generator", "mlp_pair"]
