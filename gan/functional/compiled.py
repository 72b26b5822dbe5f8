"""Programs: the training step of one run or of many, as it is, compiled, or captured."""

import warnings
from collections.abc import Callable, Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from gan.build import Parts
from gan.errors import Unfit, first_line
from gan.functional.capture import Capture
from gan.functional.step import Blueprint, step
from gan.functional.tensors import Tensors, numbers
from gan.step import Batch, Played

Step = Callable[[Tensors, Batch], Played]


class Program:
    """Called with tensors, a batch and what happens in this step, it changes the tensors.

    Args:
        compile: with torch.compile, at the first step of each kind; tensors must keep their
            shapes.
        capture: as a CUDA graph, after a few steps of each kind; called with the same tensors
            again, which must keep their places.

    Raises (when called):
        Unfit: it cannot be compiled.
    """

    def __init__(self, blueprint: Blueprint, *, compile: bool = False, capture: bool = False):
        self.blueprint = blueprint
        self._compile, self._capture = compile, capture
        self._steps: dict[tuple[bool, bool], Step] = {}

    def __call__(
        self, tensors: Tensors, batch: Batch, *, penalize: bool, update_generator: bool
    ) -> Played:
        kind = penalize, update_generator
        if kind not in self._steps:
            self._steps[kind] = self._made(*kind, tensors, batch)
        return self._steps[kind](tensors, batch)

    def _made(self, penalize: bool, update_generator: bool, tensors: Tensors, batch: Batch) -> Step:
        def plain(tensors: Tensors, batch: Batch) -> Played:
            return step(
                self.blueprint,
                tensors,
                batch,
                penalize=penalize,
                update_generator=update_generator,
            )

        made: Step = _Compiled(plain, tensors, batch) if self._compile else plain
        return Capture(made) if self._capture else made


def blueprint(
    cfg: DictConfig, parts: Parts, *, varied: Sequence[str] = (), stacked: bool = False
) -> Blueprint:
    """Of the program of a run, or of several that have all but these settings in common."""
    return Blueprint(
        parts, cfg.loss._target_, cfg.penalty._target_, numbers(cfg), tuple(varied), stacked
    )


def check(blueprint: Blueprint, tensors: Tensors, batch: Batch) -> None:
    """
    Raises:
        Unfit: a step of these cannot be made, for the reason that is told. Nothing is changed.
    """

    def whole(tensors: Tensors, batch: Batch) -> Played:
        return step(blueprint, tensors, batch, penalize=True, update_generator=True)

    _traced(whole, tensors, batch)


class _Compiled:
    """A step traced to operations on tensors, whatever Python and autograd do in it, and
    compiled."""

    def __init__(self, plain: Step, tensors: Tensors, batch: Batch):
        graph, self._structure = _traced(plain, tensors, batch)
        self._compiled = torch.compile(graph, dynamic=False)
        self._names = list(tensors)
        self._begun = False

    def __call__(self, tensors: Tensors, batch: Batch) -> Played:
        flat = [tensors[name].detach() for name in self._names] + pytree.tree_leaves(batch)
        try:
            outputs = self._compiled(*flat)
        except Exception as error:
            if self._begun:
                raise
            raise Unfit(f"torch.compile fails: {first_line(error)}") from error
        self._begun = True
        played: Played = pytree.tree_unflatten(outputs, self._structure)
        return played


def _traced(
    function: Step, tensors: Tensors, batch: Batch
) -> tuple[torch.fx.GraphModule, pytree.TreeSpec]:
    """A graph of a step's operations, and the structure of what it gives back."""
    names, structure = list(tensors), None
    leaves, form = pytree.tree_flatten(batch)

    def flat(*inputs: Tensor) -> list[Tensor | None]:
        nonlocal structure
        given = dict(zip(names, inputs, strict=False))
        played = function(given, pytree.tree_unflatten(list(inputs[len(names) :]), form))
        outputs, structure = pytree.tree_flatten(played)
        return outputs

    held = [tensor.detach() for tensor in tensors.values()]
    try:
        with warnings.catch_warnings():
            # Of operations that are slow in many runs at once: that is measured, not guessed.
            warnings.simplefilter("ignore")
            graph = make_fx(flat, tracing_mode="fake")(*held, *leaves)
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(first_line(error)) from error
    assert structure is not None
    return graph, structure
