"""The updates of torch.optim's Adam, AdamW, RMSprop and SGD as functions of one weight's tensors.

They change the weight and its state in place, in the form that torch.optim uses, so that an
optimizer can go on where they stopped. A setting is a number or a tensor (). Where tensors hold
many runs, the runs come first: weights (runs, ...), settings and step counts (runs,).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gan.arithmetic import like
from gan.build import torch_class
from gan.errors import NotSupported
from gan.step import precise_dtype

Setting = float | Tensor
Settings = Mapping[str, Setting]
State = Mapping[str, Tensor]
Update = Callable[[Tensor, Tensor, State, Settings], None]
"""A function of a weight, its gradient, its state, and settings by torch.optim's names."""


def adam(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """Update by Adam (arXiv:1412.6980). Weight decay is added to the gradient."""
    _adam(weight, _decayed(weight, gradient, settings), state, settings)


def adamw(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """Update by AdamW: Adam with decoupled weight decay (arXiv:1711.05101)."""
    decay = settings["weight_decay"]
    if _makes_a_difference(decay):
        weight.mul_(1 - _like(settings["lr"], weight) * _like(decay, weight))
    _adam(weight, gradient, state, settings)


def rmsprop(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """Update by the gradient divided by the root of a moving average of its square.

    As in torch.optim, eps is added to the root.
    """
    gradient = _decayed(weight, gradient, settings)
    state["step"].add_(1)
    state["square_avg"].lerp_(gradient.square(), _like(1 - settings["alpha"], weight))
    step = gradient / (state["square_avg"].sqrt() + _like(settings["eps"], weight))
    if "momentum_buffer" in state:
        step = state["momentum_buffer"].mul_(_like(settings["momentum"], weight)).add_(step)
    weight.sub_(_like(settings["lr"], weight) * step)


def sgd(weight: Tensor, gradient: Tensor, state: State, settings: Settings) -> None:
    """Update by the gradient, with momentum where the state has a buffer for it."""
    step = _decayed(weight, gradient, settings)
    if "momentum_buffer" in state:
        momentum = _like(settings["momentum"], weight)
        held = state["momentum_buffer"].mul_(momentum).add_(step)
        step = step + momentum * held if settings["nesterov"] else held
    weight.sub_(_like(settings["lr"], weight) * step)


class FunctionalOptimizer(NamedTuple):
    """The functional form of a class of torch.optim."""

    update: Update
    state_names: Callable[[Mapping[str, float]], tuple[str, ...]]
    """Returns the names of the tensors that are kept for a weight, given the settings."""


def _momentum_buffer(settings: Mapping[str, float]) -> tuple[str, ...]:
    return ("momentum_buffer",) if settings["momentum"] else ()


OPTIMIZERS: dict[type, FunctionalOptimizer] = {
    torch.optim.Adam: FunctionalOptimizer(adam, lambda _: ("step", "exp_avg", "exp_avg_sq")),
    torch.optim.AdamW: FunctionalOptimizer(adamw, lambda _: ("step", "exp_avg", "exp_avg_sq")),
    torch.optim.RMSprop: FunctionalOptimizer(
        rmsprop, lambda settings: ("step", "square_avg", *_momentum_buffer(settings))
    ),
    torch.optim.SGD: FunctionalOptimizer(sgd, _momentum_buffer),
}

UNSUPPORTED_SETTINGS = {
    "amsgrad": False,
    "centered": False,
    "dampening": 0,
    "maximize": False,
}
"""Settings that these updates do not support, at the only values that are allowed."""


def functional_optimizer(optimizer: torch.optim.Optimizer) -> FunctionalOptimizer:
    """Return the functional form of an optimizer.

    Raises:
        NotSupported: it has none here.
    """
    wanted = torch_class(optimizer)
    if wanted not in OPTIMIZERS:
        known = ", ".join(known.__name__ for known in OPTIMIZERS)
        raise NotSupported(f"the optimizer {wanted.__name__} is none of {known}")
    # Adam with this setting is AdamW.
    allowed = UNSUPPORTED_SETTINGS | {"decoupled_weight_decay": wanted is torch.optim.AdamW}
    for group in optimizer.param_groups:
        for name, value in allowed.items():
            if group.get(name, value) != value:
                raise NotSupported(f"the optimizer has {name}={group[name]}")
    return OPTIMIZERS[wanted]


def prepare_state(optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer the state that it would make at its first step, on its weights' device.

    Raises:
        NotSupported: the optimizer has no functional form here.
    """
    (group,) = optimizer.param_groups
    for weight in group["params"]:
        state = optimizer.state[weight]
        for name in functional_optimizer(optimizer).state_names(group):
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
    """Return 1 - beta^step, which float32 would round to a wrong value for beta near 1."""
    if isinstance(beta, Tensor):
        logarithm: Setting = beta.log()
    else:
        logarithm = math.log(beta) if beta else -math.inf
    step = step.to(precise_dtype(step.device))
    correction = (-torch.expm1(step * logarithm)).to(weight.dtype)
    # A compiled update would compute it again for every few numbers of the weight. This view makes
    # it a tensor in memory, which is computed once.
    correction = correction.as_strided(correction.shape, correction.stride())
    return broadcastable(correction, weight)


def _decayed(weight: Tensor, gradient: Tensor, settings: Settings) -> Tensor:
    decay = settings["weight_decay"]
    return gradient + _like(decay, weight) * weight if _makes_a_difference(decay) else gradient


def _makes_a_difference(setting: Setting) -> bool:
    """Return whether weight decay must be computed: always for a tensor, else if it is not 0."""
    return isinstance(setting, Tensor) or setting != 0


def _like(setting: Setting, weight: Tensor) -> Any:
    return broadcastable(setting, weight) if isinstance(setting, Tensor) else setting


def broadcastable(value: Tensor, weight: Tensor) -> Tensor:
    """Return one number for each run (runs,), or one number (), in a shape that fits a weight."""
    return like(value, weight).to(weight.dtype)
