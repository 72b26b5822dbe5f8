"""How many runs there is memory for."""

import torch
from torch import Tensor

from gan.data.memory import free
from gan.step import advance
from gan.vectorized.member import Member

USED = 0.7
"""Of the memory that is free."""


def room(member: Member) -> int:
    """How many such runs can be trained in one step, at least 1; it makes a step to find out."""
    return max(1, int(USED * free(member.running.parts.device) / _bytes_of(member)))


def _bytes_of(member: Member) -> int:
    """Twice what a step keeps for its gradients, as about as much comes and goes; and weights with
    their gradients, moments and average, and what passes in an update."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    running = member.running
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        advance(running.parts, running.state, running.batches)
    networks = running.parts.generator, running.parts.discriminator
    weights = sum(weight.nbytes for network in networks for weight in network.parameters())
    return 2 * sum(kept.values()) + 8 * weights
