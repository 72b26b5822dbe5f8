"""Pairs of a generator and a discriminator."""

from gan.models.base import Discriminator, Generator
from gan.models.dcgan import dcgan_pair
from gan.models.mlp import mlp_pair
from gan.models.r3gan import r3gan_pair
from gan.models.sngan import sngan_pair

__all__ = ["Discriminator", "Generator", "dcgan_pair", "mlp_pair", "r3gan_pair", "sngan_pair"]
