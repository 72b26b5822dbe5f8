"""An average of a generator's weights over training, which makes better samples than any one
moment's (arXiv:1806.04498)."""

import copy

import torch
from torch import Tensor, nn


def averaged(network: nn.Module) -> nn.Module:
    """A copy to hold the average; no gradients."""
    return copy.deepcopy(network).requires_grad_(False)


def decay(half_life: float, ramp_up: float | None, seen: int, images: int) -> float:
    """How much of the average stays.

    Args:
        half_life: images after which half of it is of older weights.
        ramp_up: the half-life is at most this part of the images seen, so that the first
            weights are soon forgotten (arXiv:1912.04958's code); None for no such limit.
        seen: images of training before this update.
        images: of this update.
    """
    if ramp_up is not None:
        half_life = min(half_life, ramp_up * (seen + images))
    return float(0.5 ** (images / half_life))


@torch.no_grad()
def update(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the average towards the weights; buffers, such as batch statistics, are taken over."""
    held: list[Tensor] = list(average.parameters())
    now: list[Tensor] = list(network.parameters())
    torch._foreach_lerp_(held, now, 1 - decay)
    for buffer, latest in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(latest)
