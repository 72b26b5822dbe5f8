"""Values that depend on the whole batch, where each process holds some of its rows.

Gradients of any order pass between the processes, as gradient penalties need it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.distributed.processes import Processes


def gather(processes: Processes, tensor: Tensor) -> Tensor:
    """Return the tensors of all processes (processes, ...), in the order of their ranks."""
    gathered: Tensor = _Gather.apply(tensor, processes)  # type: ignore[no-untyped-call]
    return gathered


def gather_rows(processes: Processes, rows: Tensor) -> Tensor:
    """Return the rows of the whole batch, given those of this process."""
    return gather(processes, rows).flatten(0, 1)


class _Gather(torch.autograd.Function):
    """Every process gets the tensors of all."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.collect(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _SumOwn.apply(gradients[0], ctx.processes), None  # type: ignore[no-untyped-call]


class _SumOwn(torch.autograd.Function):
    """The transpose of `_Gather`: every process gets the sum of what all have for it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return processes.sum(tensor.clone(memory_format=torch.contiguous_format))[processes.rank]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Gather.apply(gradients[0], ctx.processes), None  # type: ignore[no-untyped-call]


@contextmanager
def shared_batch_norm(processes: Processes) -> Iterator[None]:
    """Let batch norm in the block use the mean and the variance of the whole batch.

    All layers of torch call `torch.nn.functional.batch_norm`, and networks may call it themselves.
    """
    own = F.batch_norm

    def batch_norm(
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return own(input, running_mean, running_var, weight, bias, training, momentum, eps)
        # As torch does it, half precision is for what comes in and what goes out.
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        dims = [0, *range(2, x.dim())]
        shape = (1, -1, *[1] * (x.dim() - 2))
        var, mean = torch.var_mean(x, dims, correction=0)
        means, variances = gather(processes, torch.stack([mean, var])).unbind(1)
        mean = means.mean(0)
        # Squares of the means themselves would lose digits where these are large.
        var = variances.mean(0) + (means - mean).square().mean(0)
        if running_mean is not None and running_var is not None:
            count = processes.size * x.numel() // x.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_(var.to(running_var.dtype) * (count / (count - 1)), momentum)
        normalized = (x - mean.view(shape)) * (var + eps).rsqrt().view(shape)
        if weight is not None:
            normalized = normalized * weight.view(shape)
        if bias is not None:
            normalized = normalized + bias.view(shape)
        return normalized.to(input.dtype)

    F.batch_norm = batch_norm
    try:
        yield
    finally:
        F.batch_norm = own
