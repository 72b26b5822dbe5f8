"""Parts of a training step that a device cannot do without: its products and its launches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.timing import Steps, wait_for

aten = torch.ops.aten


class Operations(NamedTuple):
    """Operations of one training step."""

    products: Sequence[Callable[[], object]]
    """Functions that repeat each product of matrices and each convolution."""
    launches: int
    """Number of operations that compute something."""


def record_operations(step: Callable[[], object]) -> Operations:
    """Make a training step and return the operations of torch that it calls."""
    with _Recorder() as recorder:
        step()
    return Operations(recorder.products, recorder.launches)


def products(operations: Operations, device: torch.device) -> Steps:
    """Return steps of nothing but the products, in memory that is allocated before."""

    def steps(count: int) -> None:
        for _ in range(count):
            for product in operations.products:
                product()
        wait_for(device)

    return steps


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
        self.products: list[Callable[[], object]] = []
        self.launches = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        outputs = func(*args, **kwargs or {})
        self.launches += not _is_view(func)
        # addmm and baddbmm also add a bias, which is not part of the product.
        if func in (aten.mm.default, aten.addmm.default):
            self.products.append(_repeat(torch.mm, args[-2:], outputs))
        elif func in (aten.bmm.default, aten.baddbmm.default):
            self.products.append(_repeat(torch.bmm, args[-2:], outputs))
        elif func in (aten.convolution.default, aten.convolution_backward.default):
            self.products.append(partial(func, *pytree.tree_map_only(Tensor, torch.clone, args)))
        return outputs


def _repeat(product: Callable[..., Tensor], factors: Sequence[Tensor], out: Tensor) -> Any:
    return partial(product, *(factor.clone() for factor in factors), out=torch.empty_like(out))


def _is_view(func: Any) -> bool:
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
