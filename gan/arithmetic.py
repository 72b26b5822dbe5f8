"""Threads of torch, precision and library of matrix products, the loss scale of float16."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch
from torch import Tensor, nn

DEFAULT, ONEDNN = LIBRARIES = ("default", "onednn")
"""Libraries for products of fp32 matrices on a CPU: the one that torch was built for (MKL, on most
machines), and oneDNN, which torch uses for other work."""

CLEARLY_FASTER = 0.7
"""The share of the default library's time that oneDNN may take at most to be chosen. It takes less
than half on processors of AMD, and about as long on those of Intel, so a limit between the two
keeps chance out of the choice."""
AS_EXACT = 4.0
"""The number of times that oneDNN's error may be as large as the default library's. Each sums in
its own order. Factors that are rounded to bf16 make an error a thousand times as large."""
ROUNDS = 5
"""The number of times that each library computes each product to be timed."""
SMALLEST_PROBED = 20_000_000
"""Operations in the largest layer's product, for a batch, that are enough to be timed."""
PROBED_LAYERS = 3
"""The number of layers that are tried, the largest ones."""

FIRST_LOSS_SCALE = 2.0**16
STEPS_TO_DOUBLE = 2000
"""Updates in a row with finite gradients after which the loss scale is doubled."""
LOWEST_LOSS_SCALE = 2.0**-16
"""A loss scale below which no scale can make the gradients finite."""

Layer = tuple[int, int, int]
"""The samples in a batch, and the inputs and outputs of a linear layer."""


def in_double(tensor: Tensor) -> Tensor:
    """Return a tensor in float64, on the CPU if its device has no such numbers, as Apple's MPS."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@contextmanager
def matmul_by(library: str | None, *, tf32: bool = False) -> Iterator[None]:
    """Choose how torch computes products of fp32 matrices within the block.

    Args:
        library: one of LIBRARIES, for a CPU.
        tf32: let a GPU round factors to TF32, in convolutions too.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    # These are settings of the whole process. torch gives the CPU to oneDNN at "medium" only.
    precision = "medium" if library == ONEDNN else "high" if tf32 else "highest"
    _set(precision, tf32)
    try:
        yield
    finally:
        _set(*before)


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """Let torch use that many threads of the CPU within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def exact_matmul() -> AbstractContextManager[None]:
    """Compute products with the full accuracy of fp32 in the block, by torch's default library."""
    return matmul_by(DEFAULT)


def linear_layers(networks: Sequence[nn.Module], batch_size: int) -> tuple[Layer, ...]:
    """Return the linear layers of networks, each kind once, those with the most work first."""
    layers = {
        (batch_size, module.in_features, module.out_features)
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.Linear)
    }
    return tuple(sorted(layers, key=lambda layer: (layer[1] * layer[2], layer), reverse=True))


@cache
def onednn_is_exact(layers: tuple[Layer, ...]) -> bool:
    """Return whether oneDNN keeps the accuracy of fp32 in the products of these layers.

    On a processor with units for bf16 it may round factors to bf16 inside.
    """
    if not layers or not torch.backends.mkldnn.is_available():
        return False
    for left, right in _products(layers[:1]):
        exact = left.double() @ right.double()
        errors = {}
        for library in LIBRARIES:
            with matmul_by(library):
                errors[library] = float((left @ right - exact).norm())
        if not errors[ONEDNN] <= AS_EXACT * errors[DEFAULT]:
            return False
    return True


@cache
def fastest_exact_library(layers: tuple[Layer, ...]) -> str:
    """Return the library for the products of these layers: oneDNN if it is clearly faster here.

    The other one is taken where oneDNN does not keep the accuracy of fp32. Each library computes
    each product a few times in turn, in one thread, and its shortest time counts, so that other
    programs do not decide. The random state of torch stays as it is.

    Args:
        layers: as from `linear_layers`.
    """
    is_large = bool(layers) and 2 * math.prod(layers[0]) >= SMALLEST_PROBED
    if not is_large or not onednn_is_exact(layers):
        return DEFAULT
    seconds = dict.fromkeys(LIBRARIES, 0.0)
    with thread_count(1):
        for left, right in _products(layers[:PROBED_LAYERS]):
            shortest = dict.fromkeys(LIBRARIES, math.inf)
            for _ in range(ROUNDS):
                for library in LIBRARIES:
                    with matmul_by(library):
                        shortest[library] = min(shortest[library], _seconds(left, right))
            for library in LIBRARIES:
                seconds[library] += shortest[library]
    return ONEDNN if seconds[ONEDNN] <= CLEARLY_FASTER * seconds[DEFAULT] else DEFAULT


@cache
def bf16_slowdown(layer: Layer) -> float:
    """Return how many times as long a CPU takes for a layer's products in bf16 as in fp32.

    A processor without units for bf16 takes many times as long. The random state of torch stays
    as it is.
    """
    seconds = {torch.float32: 0.0, torch.bfloat16: 0.0}
    with thread_count(1):
        for left, right in _products([layer]):
            for dtype in seconds:
                factors = left.to(dtype), right.to(dtype)
                seconds[dtype] += min(_seconds(*factors) for _ in range(ROUNDS))
    return seconds[torch.bfloat16] / seconds[torch.float32]


def new_loss_scale(device: torch.device) -> Tensor:
    """Return the state of a loss scale (2,): the scale, and the finite updates since its change.

    Gradients in float16 are those of a loss times a scale (arXiv:1710.03740), since small ones
    would be zero. The scale is doubled now and then, and halved where a gradient is not finite;
    such a step leaves the weights as they are. Everything is a tensor, so that steps are captured,
    stacked and resumed like others.
    """
    return torch.tensor([FIRST_LOSS_SCALE, 0.0], device=device)


def unscale(
    gradients: Sequence[Tensor | None], state: Tensor
) -> tuple[list[Tensor | None], Tensor]:
    """Divide gradients by the loss scale, and change the scale in place.

    Args:
        gradients: gradients of a loss times the scale, one for each weight or None.
        state: (2,), or (runs, 2) where the gradients are of many runs.

    Returns:
        The gradients, all zero for a run in which one is not finite; and True for each run whose
        gradients are all finite, () or (runs,).
    """
    scale, steps = state.unbind(-1)
    given = [gradient for gradient in gradients if gradient is not None]
    rows = [one.reshape((*scale.shape, -1)) for one in given]
    finite = torch.stack([row.isfinite().all(-1) for row in rows]).all(0)
    unscaled = [
        None if one is None else (one / like(scale, one)).where(like(finite, one), 0)
        for one in gradients
    ]
    steps = (steps + 1).where(finite, 0)
    is_doubled = steps >= STEPS_TO_DOUBLE
    scale = (scale * (1.0 + is_doubled)).where(finite, scale / 2)
    state.copy_(torch.stack([scale, steps.where(~is_doubled, 0)], -1))
    return unscaled, finite


def like(value: Tensor, tensor: Tensor) -> Tensor:
    """Return one value for each run (runs,), or one (), in a shape that broadcasts to a tensor."""
    return value.reshape((*value.shape, *[1] * (tensor.dim() - value.dim())))


def _products(layers: Sequence[Layer]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the factors of each layer's forward product, and of those of its two gradients."""
    random = torch.Generator().manual_seed(0)
    for batch, inputs, outputs in layers:
        x, weight, gradient = (
            torch.randn(shape, generator=random)
            for shape in ((batch, inputs), (outputs, inputs), (batch, outputs))
        )
        yield x, weight.t()
        yield gradient, weight
        yield gradient.t(), x


def _seconds(left: Tensor, right: Tensor) -> float:
    began = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - began


def _set(precision: str, allow_tf32: bool) -> None:
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = allow_tf32
