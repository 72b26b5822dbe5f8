"""Train generative adversarial networks, alone or in sweeps, from Hydra configurations."""

__version__ = "0.1.0"
