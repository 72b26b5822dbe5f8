"""Tensors that hold many runs."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gan.functional.compiled import on_device
from gan.functional.tensors import Tensors
from gan.step import Batch


def stack(runs: Sequence[Tensors]) -> Tensors:
    """Return tensors (runs, ...), and make each run's own tensors parts of them.

    Where runs differ in size, the narrower ones are padded with zeros at the end of each dimension.
    Training leaves the padding at zero: a weight that is zero and sees zeros has no gradient.
    """
    stacked = {}
    for name, first in runs[0].items():
        shapes = [run[name].shape for run in runs]
        size = [max(sizes) for sizes in zip(*shapes, strict=True)]
        stacked[name] = first.detach().new_zeros(len(runs), *size)
    for index, run in enumerate(runs):
        put_into_stack(run, stacked, index)
    return stacked


def put_into_stack(run: Tensors, stacked: Tensors, index: int) -> bool:
    """Give a run a place in a stack; return whether it fits. If not, nothing is changed."""
    for name, tensor in run.items():
        sizes = zip(tensor.shape, stacked[name].shape[1:], strict=True)
        if any(own > there for own, there in sizes):
            return False
    for name, tensor in run.items():
        place = stacked[name][index]
        place.zero_()
        part = place[tuple(map(slice, tensor.shape))]
        part.copy_(tensor.detach())
        tensor.data = part
    return True


def give_own_memory(run: Tensors) -> None:
    """Give a run's tensors memory of their own again."""
    for tensor in run.values():
        tensor.data = tensor.detach().clone()


def stack_batches(batches: Sequence[Batch]) -> Batch:
    """Return the batches of many runs as one, on the device of the samples."""

    def stack_tensors(*tensors: Tensor) -> Tensor:
        return torch.stack(tensors)

    first, *others = batches
    stacked: Batch = pytree.tree_map(stack_tensors, first, *others)
    return on_device(stacked)
