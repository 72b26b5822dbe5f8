"""Networks that draw from the global random state, as a model from another package may."""

from typing import Any

from torch import nn

from gan.models import Generator, mlp_pair


def mlp_with_dropout(**settings: Any) -> tuple[nn.Module, nn.Module]:
    """Build the networks of `mlp_pair`, with dropout at the generator's input."""
    generator, discriminator = mlp_pair(**settings)
    assert isinstance(generator, Generator)
    generator.layers.insert(0, nn.Dropout(0.1))
    return generator, discriminator
