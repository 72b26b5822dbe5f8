"""Steps of a program: as they are, compiled by torch.compile, or captured as a CUDA graph."""

import getpass
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from gan.build import Parts, trained_weights
from gan.errors import NotSupported, UserError, first_line, is_out_of_memory
from gan.functional.step import Program, functional_step, make_program
from gan.functional.tensors import Tensors, named_tensors
from gan.run.state import State
from gan.step import Batch, StepKind, StepResult
from gan.system.locks import lock_at

Step = Callable[[Tensors, Batch], StepResult]

CAPTURE_WARM_UP = 3
"""Steps before the capture of a CUDA graph, in which libraries set themselves up."""


def make_compiled_step(
    cfg: DictConfig, parts: Parts, state: State
) -> Callable[[Batch, StepKind], None]:
    """Return the step of one run, compiled or captured as its configuration says.

    Raises:
        UserError: the run cannot be compiled or captured. The returned step may raise it too.
    """
    names = [name for name in ("compile", "cuda_graphs") if cfg.trainer[name]]
    wanted = " ".join(f"trainer.{name}=true" for name in names)
    try:
        program_step = ProgramStep(
            make_program(cfg, parts),
            compile=cfg.trainer.compile,
            capture=cfg.trainer.cuda_graphs,
        )
        tensors = named_tensors(parts, state)
    except NotSupported as error:
        raise UserError(f"{wanted}: {error}") from error

    def step(batch: Batch, kind: StepKind) -> None:
        try:
            program_step.train(tensors, parts, batch, kind)
        except NotSupported as error:
            raise UserError(f"{wanted}: {error}") from error

    return step


class ProgramStep:
    """The training step of a program. It changes the tensors that it is called with.

    Args:
        compile: compile the step by torch.compile, at the first step of each kind. Tensors must
            keep their shapes.
        capture: capture the step as a CUDA graph, after a few steps of each kind. It must be called
            with the same tensors again, in the same places of memory.

    Raises (when called):
        NotSupported: the step cannot be compiled or captured.
    """

    def __init__(self, program: Program, *, compile: bool = False, capture: bool = False):
        self.program = program
        self._compile, self._capture = compile, capture
        self._steps: dict[StepKind, Step] = {}

    def __call__(self, tensors: Tensors, batch: Batch, kind: StepKind) -> StepResult:
        if kind not in self._steps:
            self._steps[kind] = self._make(kind, tensors, batch)
        return self._steps[kind](tensors, batch)

    def train(self, tensors: Tensors, parts: Parts, batch: Batch, kind: StepKind) -> None:
        """Make one step of a run, given its named tensors, and store its gradients."""
        leave_gradients(parts, self(tensors, on_device(batch), kind))

    def _make(self, kind: StepKind, tensors: Tensors, batch: Batch) -> Step:
        def plain(tensors: Tensors, batch: Batch) -> StepResult:
            return functional_step(self.program, tensors, batch, kind)

        step: Step = _CompiledStep(plain, tensors, batch) if self._compile else plain
        return _CapturedStep(step) if self._capture else step


def on_device(batch: Batch) -> Batch:
    """Return a batch whose tensors all are on the device of its samples."""
    moved: Batch = pytree.tree_map(
        lambda tensor: tensor.to(batch.real.device, non_blocking=True), batch
    )
    return moved


def leave_gradients(parts: Parts, result: StepResult, index: int | None = None) -> None:
    """Leave gradients with the weights, where a record looks for them.

    Args:
        index: the run's place in the stack, if `result` is of several runs.
    """
    for network, gradients in (
        (parts.generator, result.generator_gradients),
        (parts.discriminator, result.discriminator_gradients),
    ):
        # There are no gradients where the network was not updated.
        weights = trained_weights(network).values()
        for weight, gradient in zip(weights, gradients, strict=bool(gradients)):
            if gradient is not None and index is not None:
                gradient = gradient[index][tuple(map(slice, weight.shape))]
            weight.grad = gradient


class _CompiledStep:
    """A step that is traced to operations on tensors, without Python and autograd, and compiled."""

    def __init__(self, plain: Step, tensors: Tensors, batch: Batch):
        graph, self._structure = _trace(plain, tensors, batch)
        self._compiled, self._code = torch.compile(graph, dynamic=False), graph.code
        self._names = list(tensors)
        self._has_run = False

    def __call__(self, tensors: Tensors, batch: Batch) -> StepResult:
        flat = [tensors[name].detach() for name in self._names] + pytree.tree_leaves(batch)
        outputs = self._compiled(*flat) if self._has_run else self._compile(flat)
        result: StepResult = pytree.tree_unflatten(outputs, self._structure)
        return result

    def _compile(self, flat: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Make the first step, which compiles.

        torch keeps what it compiles on the disk. Of several processes with the same step, such as
        the workers of a sweep, one compiles, and the others wait and load the result.
        """
        shapes = [(tuple(tensor.shape), tensor.dtype) for tensor in flat]
        try:
            with _lock_for(f"{self._code} {shapes}"):
                outputs: Sequence[Tensor | None] = self._compiled(*flat)
        except Exception as error:
            # The first step is also computed here.
            if is_out_of_memory(error):
                raise
            raise NotSupported(f"torch.compile fails: {first_line(error)}") from error
        self._has_run = True
        return outputs


def _lock_for(text: str) -> AbstractContextManager[object]:
    """Return a lock that processes of this user share for one text, or nothing if none can be had.

    A few texts share a lock, so that only a few files are left behind.
    """
    number = zlib.crc32(text.encode()) % 16
    try:
        user = getpass.getuser().replace(os.sep, "-")
        return lock_at(Path(tempfile.gettempdir()) / f"gan-compile-{user}-{number}.lock")
    except (OSError, KeyError):
        # The folder cannot be written, or the user has no name.
        return nullcontext()


class _CapturedStep:
    """A step that is captured as a CUDA graph after a few calls, and replayed from then on.

    Its kernels are then launched all at once. It is called with the same tensors each time, in the
    same places, and with batches of one shape. Its result is overwritten by the next call.
    """

    def __init__(self, step: Step):
        self._step = step
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, tensors: Tensors, batch: Batch) -> StepResult:
        self._calls += 1
        if self._calls <= CAPTURE_WARM_UP:
            with self._own_stream(batch.real.device):
                return self._step(tensors, batch)
        if self._graph is None:
            self._graph = self._capture(tensors, batch)
        torch._foreach_copy_(pytree.tree_leaves(self._batch), pytree.tree_leaves(batch))
        self._graph.replay()
        return self._result

    def _capture(self, tensors: Tensors, batch: Batch) -> torch.cuda.CUDAGraph:
        """Capture the step. That computes nothing: a replay makes the step."""
        self._batch = pytree.tree_map(torch.clone, batch)
        graph = torch.cuda.CUDAGraph()
        try:
            # Meanwhile, the thread that reads data may allocate memory: hence "thread_local".
            with (
                self._own_stream(batch.real.device) as stream,
                torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
            ):
                self._result = self._step(tensors, self._batch)
        except RuntimeError as error:
            # The end of a capture that failed fails as well.
            cause = error.__context__ or error
            if isinstance(cause, torch.OutOfMemoryError):
                raise cause from None
            raise NotSupported(
                f"the training step cannot be captured as a CUDA graph ({first_line(cause)})"
            ) from error
        return graph

    @contextmanager
    def _own_stream(self, device: torch.device) -> Iterator[torch.cuda.Stream]:
        """Run the block on a stream of the device, since its default stream cannot be captured.

        The device is named because torch would take the current one otherwise.
        """
        stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield stream
        current.wait_stream(stream)


def _trace(
    step: Step, tensors: Tensors, batch: Batch
) -> tuple[torch.fx.GraphModule, pytree.TreeSpec]:
    """Return a graph of a step's operations, and the structure of its result."""
    names, structure = list(tensors), None
    leaves, batch_structure = pytree.tree_flatten(batch)

    def flat(*inputs: Tensor) -> list[Tensor | None]:
        nonlocal structure
        given = dict(zip(names, inputs, strict=False))
        result = step(given, pytree.tree_unflatten(list(inputs[len(names) :]), batch_structure))
        outputs, structure = pytree.tree_flatten(result)
        return outputs

    detached = [tensor.detach() for tensor in tensors.values()]
    try:
        with warnings.catch_warnings():
            # torch warns of operations that are slow for many runs. We measure that instead.
            warnings.simplefilter("ignore")
            graph = make_fx(flat, tracing_mode="fake")(*detached, *leaves)
    except NotSupported:
        raise
    except Exception as error:
        raise NotSupported(first_line(error)) from error
    assert structure is not None
    return graph, structure
