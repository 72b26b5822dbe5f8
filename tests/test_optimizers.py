"""torch's optimizers without the compiler's marks."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from gan.optimizers import eager

SETTINGS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (Adam, {"betas": [0.5, 0.9], "fused": True}),
    (AdamW, {"weight_decay": 0.1, "fused": True}),
    (RMSprop, {"alpha": 0.9, "momentum": 0.5}),
    (SGD, {"momentum": 0.5, "nesterov": True, "fused": True}),
]


def made(
    optimizer: Callable[..., Optimizer], settings: dict[str, Any]
) -> tuple[nn.Linear, Optimizer]:
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.arange(6.0).view(2, 3) / 6)
        network.bias.zero_()
    return network, optimizer(network.parameters(), lr=0.1, **settings)


def trained(network: nn.Linear, optimizer: Optimizer, steps: int) -> Tensor:
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return network.weight.detach().clone()


@pytest.mark.parametrize(("optimizer", "settings"), SETTINGS)
def test_it_computes_what_torch_does(optimizer: type[Optimizer], settings: dict[str, Any]) -> None:
    ours, theirs = made(eager(optimizer), settings), made(optimizer, settings)
    start = ours[0].weight.detach().clone()
    after = trained(*ours, steps=3)
    assert not after.equal(start)
    assert after.equal(trained(*theirs, steps=3))
    assert str(ours[1].state_dict()) == str(theirs[1].state_dict())
    # The state of either is that of the other.
    ours[1].load_state_dict(copy.deepcopy(theirs[1].state_dict()))
    assert trained(*ours, steps=2).equal(trained(*theirs, steps=2))


def test_it_is_an_optimizer_of_its_kind_and_calls_hooks() -> None:
    network, optimizer = made(eager(Adam), {})
    assert isinstance(optimizer, Adam)
    called: list[Optimizer] = []
    optimizer.register_step_post_hook(lambda stepped, *_: called.append(stepped))
    trained(network, optimizer, steps=2)
    assert called == [optimizer, optimizer]
    assert torch.is_grad_enabled()


def test_other_classes_stay_as_they_are() -> None:
    class Own(SGD):
        pass

    assert eager(Own) is Own
