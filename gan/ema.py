"""Exponential moving average of a generator's weights over training.

It makes better samples than the weights of any single step (arXiv:1806.04498).
"""

import copy

import torch
from torch import Tensor, nn


def start_average(network: nn.Module) -> nn.Module:
    """Return a copy of a network, without gradients, that will hold its average."""
    return copy.deepcopy(network).requires_grad_(False)


def decay(half_life: float, ramp_up: float | None, images_seen: int, new_images: int) -> float:
    """Return the share of the average that stays in an update.

    Args:
        half_life: number of images after which half of the average comes from older weights. At 0
            the average is the weights themselves.
        ramp_up: upper limit for the half-life, as a share of `images_seen` and `new_images`
            together, so that the first weights are soon forgotten (after arXiv:2006.06676's code,
            which takes the images before this update); None for no limit.
        images_seen: number of training images up to this update.
        new_images: number of images in this update.
    """
    if ramp_up is not None:
        half_life = min(half_life, ramp_up * (images_seen + new_images))
    if half_life == 0:
        return 0.0
    return float(0.5 ** (new_images / half_life))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average towards the weights, and copy buffers such as batch statistics.

    The buffers of a spectral norm estimate the norms of the latest weights, so those of averaged
    weights are a little off.
    """
    old: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(old, new, 1 - decay)
    for buffer, latest in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(latest)
