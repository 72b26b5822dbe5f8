"""Functional optimizers against torch.optim, and the hyperparameters in which runs differ."""

from typing import Any

import pytest
import torch
from runs import short
from torch import nn

from gan.errors import NotSupported
from gan.functional.optimizers import OPTIMIZERS, functional_optimizer, prepare_state
from gan.functional.tensors import as_tensors, differing, hyperparameters

SETTINGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"betas": (0.5, 0.999), "eps": 1e-8}),
    "adam, no mean": (torch.optim.Adam, {"betas": (0.0, 0.9), "eps": 1e-8}),
    "adamw": (torch.optim.AdamW, {"betas": (0.9, 0.99), "eps": 1e-6}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0}),
    "rmsprop, momentum": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-8, "momentum": 0.9}),
    "sgd": (torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
    "sgd, momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
    "sgd, nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", SETTINGS)
def test_updates_are_those_of_torch(name: str, weight_decay: float) -> None:
    """Three weights with learning rates of their own are updated in one stack, and by torch."""
    make, settings = SETTINGS[name]
    rates = [0.1, 0.01, 0.003]
    weights = [nn.Parameter(torch.randn(3, 2, dtype=torch.float64)) for _ in rates]
    theirs = [
        make([weight], lr=rate, weight_decay=weight_decay, **settings)
        for weight, rate in zip(weights, rates, strict=True)
    ]
    ours = torch.stack([weight.detach() for weight in weights])
    prototype = make([nn.Parameter(ours.clone())], lr=0.1, weight_decay=weight_decay, **settings)
    prepare_state(prototype)
    (prepared,) = prototype.state.values()
    state = {key: value if value.dim() else value.repeat(3) for key, value in prepared.items()}
    given = {k: v for k, v in settings.items() if k != "betas"} | {"weight_decay": weight_decay}
    if "betas" in settings:
        given["beta1"], given["beta2"] = settings["betas"]
    given["lr"] = torch.tensor(rates, dtype=torch.float64)
    for _ in range(20):
        gradient = torch.randn_like(ours)
        for weight, own, optimizer in zip(weights, gradient, theirs, strict=True):
            weight.grad = own.clone()
            optimizer.step()
        functional_optimizer(prototype).update(ours, gradient, state, given)
    torch.testing.assert_close(ours, torch.stack([w.detach() for w in weights]), rtol=1e-12, atol=0)
    for index, (weight, optimizer) in enumerate(zip(weights, theirs, strict=True)):
        for key, value in optimizer.state[weight].items():
            if value is not None:
                torch.testing.assert_close(state[key][index].to(value.dtype), value)


@pytest.mark.parametrize("name", SETTINGS)
def test_prepared_state_is_what_torch_makes_at_its_first_step(name: str) -> None:
    make, settings = SETTINGS[name]
    states = []
    for prepared in (True, False):
        weight = nn.Parameter(torch.ones(3, 2))
        optimizer = make([weight], lr=0.1, **settings)
        if prepared:
            prepare_state(optimizer)
        else:
            weight.grad = torch.ones(3, 2)
            optimizer.step()
        state = optimizer.state[weight]
        states.append({k: (v.shape, v.dtype) for k, v in state.items() if v is not None})
    assert states[0] == states[1]


def test_unknown_optimizer_is_refused_by_name() -> None:
    assert torch.optim.Adagrad not in OPTIMIZERS
    with pytest.raises(NotSupported, match=r"Adagrad is none of Adam, AdamW, RMSprop, SGD"):
        functional_optimizer(torch.optim.Adagrad([nn.Parameter(torch.ones(1))]))


def test_differing_hyperparameters_become_tensors() -> None:
    one, other = (
        hyperparameters(short(*overrides)) for overrides in ((), ("optimizer.betas=[0.5,0.9]",))
    )
    # The discriminator's optimizer follows the generator's.
    expected = ("generator_optimizer/beta2", "discriminator_optimizer/beta2")
    assert differing([one, other, one]) == expected
    assert differing([one, one]) == ()
    values = as_tensors([one, other], expected, torch.device("cpu"))
    assert values[expected[0]].tolist() == [0.999, 0.9]
