"""What a device cannot do without in a step: its products, and its launches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.members import Steps, wait

aten = torch.ops.aten


class Needs(NamedTuple):
    """Of a step."""

    products: Sequence[Callable[[], object]]
    """Each one, again: of matrices, and convolutions."""
    launches: int
    """Operations that compute something."""


def needs(step: Callable[[], object]) -> Needs:
    """What is called while a step is made, by torch's own operations."""
    with _Recorder() as recorder:
        step()
    return Needs(recorder.products, recorder.launches)


def products(needed: Needs, device: torch.device) -> Steps:
    """Its products alone, on memory that is there already."""

    def steps(count: int) -> None:
        for _ in range(count):
            for product in needed.products:
                product()
        wait(device)

    return steps


def launches(needed: Needs, device: torch.device) -> Steps:
    """As many operations, each of a single number."""
    number, out = torch.zeros(1, device=device), torch.zeros(1, device=device)

    def steps(count: int) -> None:
        for _ in range(count * needed.launches):
            torch.neg(number, out=out)
        wait(device)

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
        # The sum with a bias is none of the product.
        if func in (aten.mm.default, aten.addmm.default):
            self.products.append(_again(torch.mm, args[-2:], outputs))
        elif func in (aten.bmm.default, aten.baddbmm.default):
            self.products.append(_again(torch.bmm, args[-2:], outputs))
        elif func in (aten.convolution.default, aten.convolution_backward.default):
            self.products.append(partial(func, *pytree.tree_map_only(Tensor, torch.clone, args)))
        return outputs


def _again(product: Callable[..., Tensor], factors: Sequence[Tensor], out: Tensor) -> Any:
    return partial(product, *(factor.clone() for factor in factors), out=torch.empty_like(out))


def _is_view(func: Any) -> bool:
    aliases = [returned.alias_info for returned in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
