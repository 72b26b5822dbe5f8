"""Devices that are there and those that are not; optimizers without the compiler; small batches."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from runs import SHORT
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from gan.build import build, find_device, without_compiler
from gan.config.compose import compose
from gan.errors import UserError

SETTINGS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (Adam, {"betas": [0.5, 0.9], "fused": True}),
    (AdamW, {"weight_decay": 0.1, "fused": True}),
    (RMSprop, {"alpha": 0.9, "momentum": 0.5}),
    (SGD, {"momentum": 0.5, "nesterov": True, "fused": True}),
]


def make(
    optimizer: Callable[..., Optimizer], settings: dict[str, Any]
) -> tuple[nn.Linear, Optimizer]:
    """Return a small network and its optimizer."""
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.weight.copy_(torch.arange(6.0).view(2, 3) / 6)
        network.bias.zero_()
    return network, optimizer(network.parameters(), lr=0.1, **settings)


def train(network: nn.Linear, optimizer: Optimizer, steps: int) -> Tensor:
    """Make so many steps and return a copy of the weights."""
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
    return network.weight.detach().clone()


@pytest.mark.parametrize(("optimizer", "settings"), SETTINGS)
def test_optimizer_without_compiler_computes_what_torch_does(
    optimizer: type[Optimizer], settings: dict[str, Any]
) -> None:
    ours, theirs = make(without_compiler(optimizer), settings), make(optimizer, settings)
    start = ours[0].weight.detach().clone()
    after = train(*ours, steps=3)
    assert not after.equal(start)
    assert after.equal(train(*theirs, steps=3))
    assert str(ours[1].state_dict()) == str(theirs[1].state_dict())
    # Each can go on from the other's state.
    ours[1].load_state_dict(copy.deepcopy(theirs[1].state_dict()))
    assert train(*ours, steps=2).equal(train(*theirs, steps=2))


def test_optimizer_without_compiler_keeps_its_class_and_calls_hooks() -> None:
    network, optimizer = make(without_compiler(Adam), {})
    assert isinstance(optimizer, Adam)
    called: list[Optimizer] = []
    optimizer.register_step_post_hook(lambda optimizer, *_: called.append(optimizer))
    train(network, optimizer, steps=2)
    assert called == [optimizer, optimizer]
    assert torch.is_grad_enabled()


def test_optimizer_from_elsewhere_stays_as_it_is() -> None:
    class Own(SGD):
        pass

    assert without_compiler(Own) is Own


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str | None, *, cuda: bool) -> None:
    """Let torch be built with or without CUDA, and see so many GPUs."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("gpus", "name", "expected"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
)
def test_device_is_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, expected: str
) -> None:
    pretend(monkeypatch, gpus, None, cuda=True)
    assert find_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("gpus", "visible", "cuda", "name", "message"),
    [
        (0, None, False, "cuda", "has cpu; this torch was built without CUDA"),
        (0, "0", False, "cuda:0", "has cpu; this torch was built without CUDA"),
        (0, None, True, "cuda", "has cpu"),
        (0, "", True, "cuda", "has cpu; CUDA_VISIBLE_DEVICES= hides others"),
        (0, "-1", True, "cuda", "has cpu; CUDA_VISIBLE_DEVICES=-1 hides others"),
        (1, "GPU-8f", True, "cuda:1", "has cuda:0, cpu; CUDA_VISIBLE_DEVICES=GPU-8f hides others"),
        (2, None, True, "cuda:2", "has cuda:0, cuda:1, cpu"),
        (2, "0,1", True, "mps", "has cuda:0, cuda:1, cpu"),
    ],
)
def test_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    visible: str | None,
    cuda: bool,
    name: str,
    message: str,
) -> None:
    pretend(monkeypatch, gpus, visible, cuda=cuda)
    with pytest.raises(UserError) as raised:
        find_device(name)
    assert str(raised.value) == f"device={name}: not on this machine, which {message}"


@pytest.mark.parametrize(
    ("overrides", "role"),
    [
        ("trainer.batch_size=1 model.generator_norm=batch", "generator"),
        ("trainer.batch_size=4 trainer.pac=4 model.discriminator_norm=batch", "discriminator"),
    ],
)
def test_batch_norm_of_one_row_is_refused(overrides: str, role: str) -> None:
    cfg = compose(*SHORT[1:], *overrides.split())
    with pytest.raises(UserError, match=rf"is too few for model\._target_=\S+: its {role} cannot"):
        build(cfg)
    build(compose(*SHORT[1:], *overrides.replace("=batch", "=layer").split()))
