"""Packing (PacGAN, arXiv:1712.04086): the discriminator judges several samples at once, so that
it sees where they are too much alike."""

from torch import Tensor


def pack(samples: Tensor, pac: int) -> Tensor:
    """Samples (batch, channels, ...) to packs (batch / pac, pac * channels, ...); points have
    coordinates for channels."""
    return samples.reshape(len(samples) // pac, pac * samples.shape[1], *samples.shape[2:])
