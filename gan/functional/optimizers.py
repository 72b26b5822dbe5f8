"""The updates of torch.optim's Adam, AdamW, RMSprop and SGD as functions of one weight's tensors.

They change these in place and keep them as torch.optim does, so that an optimizer goes on where
they stopped. A setting is a number, or a tensor () of its own. Where tensors hold those of many
runs, members come first: weights (members, ...), settings and step counts (members,).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan.errors import Unfit
from gan.optimizers import eager

Setting = float | Tensor
Settings = Mapping[str, Setting]
State = Mapping[str, Tensor]
Update = Callable[[Tensor, Tensor, State, Settings], None]
"""Of a weight, its gradient, the optimizer's state for it, and settings by torch.optim's names."""


def adam(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """arXiv:1412.6980, with weight decay added to the gradient."""
    _adam(weight, _decayed(weight, gradient, settings), state, settings)


def adamw(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """Adam with weight decay of its own (arXiv:1711.05101)."""
    decay = settings["weight_decay"]
    if _given(decay):
        weight.mul_(1 - _like(settings["lr"], weight) * _like(decay, weight))
    _adam(weight, gradient, state, settings)


def rmsprop(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """The gradient over the root of a moving average of its square, as torch.optim has it: eps is
    added to the root."""
    gradient = _decayed(weight, gradient, settings)
    state["step"].add_(1)
    state["square_avg"].lerp_(gradient.square(), _like(1 - settings["alpha"], weight))
    step = gradient / (state["square_avg"].sqrt() + _like(settings["eps"], weight))
    if "momentum_buffer" in state:
        step = state["momentum_buffer"].mul_(_like(settings["momentum"], weight)).add_(step)
    weight.sub_(_like(settings["lr"], weight) * step)


def sgd(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """With momentum, where there is a buffer for it, and Nesterov's variant."""
    step = _decayed(weight, gradient, settings)
    if "momentum_buffer" in state:
        momentum = _like(settings["momentum"], weight)
        held = state["momentum_buffer"].mul_(momentum).add_(step)
        step = step + momentum * held if settings["nesterov"] else held
    weight.sub_(_like(settings["lr"], weight) * step)


class Kind(NamedTuple):
    """A class of torch.optim's."""

    update: Update
    state: Callable[[Mapping[str, float]], tuple[str, ...]]
    """What it keeps for a weight, given its settings."""


KINDS: dict[type, Kind] = {
    torch.optim.Adam: Kind(adam, lambda _: ("step", "exp_avg", "exp_avg_sq")),
    torch.optim.AdamW: Kind(adamw, lambda _: ("step", "exp_avg", "exp_avg_sq")),
    torch.optim.RMSprop: Kind(rmsprop, lambda settings: ("step", "square_avg", *_buffer(settings))),
    torch.optim.SGD: Kind(sgd, lambda settings: _buffer(settings)),
}

DEFAULTS = {
    "amsgrad": False,
    "centered": False,
    "dampening": 0,
    "decoupled_weight_decay": False,
    "maximize": False,
}
"""Settings that these updates do not have, at the values that make no difference."""


def kind(optimizer: torch.optim.Optimizer) -> Kind:
    """
    Raises:
        Unfit: there is no such update here.
    """
    own = type(optimizer)
    found = KINDS.get(own.__bases__[0] if own.__module__ == eager.__module__ else own)
    if found is None:
        known = ", ".join(known.__name__ for known in KINDS)
        raise Unfit(f"the optimizer {own.__name__} is none of {known}")
    return found


def prepare(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer the state that it would make at its first step, on its weights' device."""
    (group,) = optimizer.param_groups
    for weight in group["params"]:
        state = optimizer.state[weight]
        for name in kind(optimizer).state(group):
            if name not in state:
                state[name] = torch.zeros(()) if name == "step" else torch.zeros_like(weight)
            state[name] = state[name].to(weight.device)


def _adam(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    mean, square, step = state["exp_avg"], state["exp_avg_sq"], state["step"]
    beta1, beta2 = settings["beta1"], settings["beta2"]
    step.add_(1)
    mean.lerp_(gradient, _like(1 - beta1, weight))
    square.lerp_(gradient.square(), _like(1 - beta2, weight))
    root = square.sqrt() / _correction(beta2, step, weight).sqrt()
    rate = _like(settings["lr"], weight) / _correction(beta1, step, weight)
    weight.sub_(rate * mean / (root + _like(settings["eps"], weight)))


def _correction(beta: Setting, step: Tensor, weight: Tensor) -> Tensor:
    """1 - beta^step, which float32 would round to a wrong value for beta near 1."""
    if isinstance(beta, Tensor):
        logarithm: Setting = beta.log()
    else:
        logarithm = math.log(beta) if beta else -math.inf
    return beside(-torch.expm1(step.double() * logarithm), weight)


def _decayed(weight: Tensor, gradient: Tensor, settings: Settings) -> Tensor:
    decay = settings["weight_decay"]
    return gradient + _like(decay, weight) * weight if _given(decay) else gradient


def _given(setting: Setting) -> bool:
    """Whether it makes a difference, for all that is known before it runs."""
    return isinstance(setting, Tensor) or setting != 0


def _like(setting: Setting, weight: Tensor) -> Any:
    """A setting so that it multiplies the weight, of all members or of one."""
    return beside(setting, weight) if isinstance(setting, Tensor) else setting


def beside(value: Tensor, weight: Tensor) -> Tensor:
    """A number for each member (members,), or one (), so that it broadcasts to a weight."""
    ones = [1] * (weight.dim() - value.dim())
    return value.reshape(*value.shape, *ones).to(weight.dtype)


def _buffer(settings: Mapping[str, float]) -> tuple[str, ...]:
    return ("momentum_buffer",) if settings["momentum"] else ()
