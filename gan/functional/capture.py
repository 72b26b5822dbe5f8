"""CUDA graphs: a step whose kernels are launched all at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from gan.functional.tensors import Tensors
    from gan.step import Batch, Played

WARM_UP = 3
"""Steps before the capture, in which libraries set themselves up."""


class Capture:
    """A step that is captured after a few calls, and replayed from then on.

    It is called with the same tensors each time, in the same places, and batches of one shape;
    what it gives back is overwritten by the next call.
    """

    def __init__(self, step: "Callable[[Tensors, Batch], Played]"):
        self._step = step
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tensors: "Tensors", batch: "Batch") -> "Played":
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._beside(tensors, batch)
        if self._graph is None:
            self._batch = pytree.tree_map(torch.clone, batch)
            self._graph = torch.cuda.CUDAGraph()
            # Nothing is computed in a capture: the replay below makes the step.
            with torch.cuda.graph(self._graph):
                self._played = self._step(tensors, self._batch)
        held, given = pytree.tree_leaves(self._batch), pytree.tree_leaves(batch)
        torch._foreach_copy_(held, given)
        self._graph.replay()
        return self._played

    def _beside(self, tensors: "Tensors", batch: "Batch") -> "Played":
        """On a stream of its own, as what is set up on the default one cannot be captured."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            played = self._step(tensors, batch)
        torch.cuda.current_stream().wait_stream(stream)
        return played
