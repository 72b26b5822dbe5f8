"""Parts of a training step that a device cannot do without: its products and its launches."""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.timing import Steps, wait_for
from gan.arithmetic import DEFAULT, ONEDNN, onednn_is_exact

aten = torch.ops.aten


Ways = dict[str, Callable[[], object]]
"""Functions that compute one product with the accuracy of fp32, by the library that they use."""

TRIES = 20
"""The number of times that each way is tried, to find the fastest one."""


class Operations(NamedTuple):
    """Operations of one training step."""

    products: Sequence[Ways]
    """Each product of matrices and each convolution, which functions repeat."""
    launches: int
    """Number of operations that compute something."""


def record_operations(step: Callable[[], object]) -> Operations:
    """Make a training step and return the operations of torch that it calls."""
    with _Recorder() as recorder:
        step()
    return Operations(recorder.products, recorder.launches)


def products(operations: Operations, device: torch.device, library: str | None = None) -> Steps:
    """Return steps of nothing but the products.

    Args:
        library: computes the products that it can; None is for each product the fastest of all.
    """
    chosen = [
        ways.get(library, ways[DEFAULT]) if library else _fastest(ways, device)
        for ways in operations.products
    ]

    def steps(count: int) -> None:
        for _ in range(count):
            for product in chosen:
                product()
        wait_for(device)

    return steps


def _fastest(ways: Ways, device: torch.device) -> Callable[[], object]:
    """Return the function whose shortest time is the shortest, after trying them in turn."""
    if len(ways) == 1:
        return ways[DEFAULT]
    shortest = dict.fromkeys(ways, math.inf)
    for _ in range(TRIES):
        for library, product in ways.items():
            start = time.perf_counter()
            product()
            wait_for(device)
            shortest[library] = min(shortest[library], time.perf_counter() - start)
    return ways[min(shortest, key=lambda library: shortest[library])]


def launches(operations: Operations, device: torch.device) -> Steps:
    """Return steps of as many operations, each on a single number."""
    number, out = torch.zeros(1, device=device), torch.zeros(1, device=device)

    def steps(count: int) -> None:
        for _ in range(count * operations.launches):
            torch.neg(number, out=out)
        wait_for(device)

    return steps


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[Ways] = []
        self.launches = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **kwargs or {})
        self.launches += not _is_view(func)
        # addmm and baddbmm also add a bias, which is not part of the product.
        if func in (aten.mm.default, aten.addmm.default):
            self.products.append(_ways(torch.mm, args[-2:], outputs))
        elif func in (aten.bmm.default, aten.baddbmm.default):
            self.products.append(_ways(torch.bmm, args[-2:], outputs))
        elif func in (aten.convolution.default, aten.convolution_backward.default):
            own = pytree.tree_map_only(Tensor, torch.clone, args)
            self.products.append({DEFAULT: partial(func, *own)})
        return outputs


def _ways(product: Callable[..., Tensor], factors: Sequence[Tensor], out: Tensor) -> Ways:
    """Return the ways to compute a product, in memory that is allocated before if possible."""
    # A clone keeps the order of the memory, on which speed depends.
    left, right = (factor.clone() for factor in factors)
    by_default = partial(product, left, right, out=torch.empty_like(out))
    on_cpu = left.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if not on_cpu or left.dtype != torch.float32:
        return {DEFAULT: by_default}
    if onednn_is_exact(((left.shape[-2], left.shape[-1], right.shape[-1]),)):

        def by_onednn() -> None:
            torch.set_float32_matmul_precision("medium")
            by_default()
            torch.set_float32_matmul_precision("highest")

        return {DEFAULT: by_default, ONEDNN: by_onednn}
    # Where the public switch would round factors to bf16, this operation does not.
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if product is not torch.mm or linear is None:
        return {DEFAULT: by_default}
    return {DEFAULT: by_default, ONEDNN: partial(linear, left, right.t(), None, "none", [], "")}


def _is_view(func: Any) -> bool:
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
