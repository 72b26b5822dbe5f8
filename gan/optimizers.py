"""torch's optimizers, quick to make."""

import inspect

import torch
from torch.optim import Optimizer

_MARKED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def eager(optimizer: type[Optimizer]) -> type[Optimizer]:
    """The same class without what torch puts around its methods for torch.compile, which imports
    the compiler when an optimizer is made: a second, in which nothing is compiled.

    Other classes than torch's are returned as they are. `differentiable=True` has no effect.
    """
    if not optimizer.__module__.startswith("torch.optim."):
        return optimizer
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in _MARKED}
    methods["step"] = torch.no_grad()(inspect.unwrap(optimizer.step))
    return type(optimizer.__name__, (optimizer,), methods)
