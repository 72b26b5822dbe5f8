"""A training step of tensors by name, of one run or of many that share a program."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from hydra.utils import get_method
from torch import Tensor, nn
from torch.func import functional_call, vmap

from gan.build import Parts
from gan.functional.optimizers import beside, kind
from gan.functional.tensors import Numbers, Tensors, below, varied
from gan.losses import Loss
from gan.penalties import Penalty
from gan.step import Batch, Game, Played, Player, count, forward, rules, train_step

Function = Callable[..., Any]


class Blueprint(NamedTuple):
    """What the runs of a program have in common."""

    parts: Parts
    """Of one of them: tensors take the place of its networks' and its optimizers' own."""
    loss: str
    """The name of its factory."""
    penalty: str | None
    numbers: Numbers
    """Of one of them, which count where they do not come as tensors, below settings/."""
    varied: tuple[str, ...]
    """The settings that do."""
    stacked: bool
    """Whether all tensors have members before their own dimensions."""

    def covers(self, numbers: Numbers) -> bool:
        """Whether a run with these settings can share the program."""
        return set(varied([self.numbers, numbers])) <= set(self.varied)

    def each(self, function: Function) -> Function:
        """Of a function of one run's tensors, the one of all."""
        return vmap(function) if self.stacked else function


def step(
    blueprint: Blueprint, tensors: Tensors, batch: Batch, *, penalize: bool, update_generator: bool
) -> Played:
    """Train on one batch, changing the tensors."""
    played = train_step(
        _game(blueprint, tensors), batch, penalize=penalize, update_generator=update_generator
    )
    count(tensors["state/sums"], tensors["state/healthy"], played.statistics)
    return played


def _game(blueprint: Blueprint, tensors: Tensors) -> Game:
    parts = blueprint.parts
    made = rules(parts) | {
        "loss": _loss(blueprint, tensors),
        "penalty": _penalty(blueprint, tensors) if parts.penalty else None,
    }
    return Game(
        _player(blueprint, tensors, "generator"),
        _player(blueprint, tensors, "discriminator"),
        partial(_average, tensors, parts.average) if parts.average else None,
        **made,
        each=blueprint.each,
        dim=int(blueprint.stacked),
    )


def _player(blueprint: Blueprint, tensors: Tensors, role: str) -> Player:
    parts, network = blueprint.parts, getattr(blueprint.parts, role)
    names = [name for name, _ in network.named_parameters()]
    held = below(tensors, role)
    # The same memory, so that an update is seen; but the graph begins here.
    weights = {name: held.pop(name).detach().requires_grad_() for name in names}
    change = kind(getattr(parts, f"{role}_optimizer")).update
    optimizer = f"{role}_optimizer"
    settings = below(blueprint.numbers, optimizer) | below(tensors, f"settings/{optimizer}")

    def call(weights: Tensors, buffers: Tensors, inputs: Tensor, labels: Tensor) -> Tensor:
        def own(*given: Tensor) -> Tensor:
            outputs: Tensor = functional_call(network, weights | buffers, given)
            return outputs

        return forward(own, parts, inputs, labels)

    def update(gradients: Sequence[Tensor | None]) -> None:
        with torch.no_grad():
            for name, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    state = below(tensors, f"{optimizer}/{name}")
                    change(weights[name], gradient, state, settings)

    return Player(partial(blueprint.each(call), weights, held), list(weights.values()), update)


def _average(tensors: Tensors, network: nn.Module, kept: Tensor) -> None:
    weights = {name for name, _ in network.named_parameters()}
    with torch.no_grad():
        for name, held in below(tensors, "average").items():
            now = tensors[f"generator/{name}"]
            if name in weights:
                held.lerp_(now, 1 - beside(kept, held))
            else:
                held.copy_(now)


def _loss(blueprint: Blueprint, tensors: Tensors) -> Loss:
    made = partial(_made, blueprint, tensors, "loss")
    return Loss(made("discriminator"), made("generator"), blueprint.parts.loss.pairs)


def _penalty(blueprint: Blueprint, tensors: Tensors) -> Penalty:
    made = partial(_made, blueprint, tensors, "penalty")
    assert blueprint.parts.penalty
    if blueprint.parts.penalty.project:
        return Penalty(project=made("project"))
    return Penalty(points=made("points"), cost=made("cost"), draw=blueprint.parts.penalty.draw)


def _made(blueprint: Blueprint, tensors: Tensors, group: str, name: str) -> Function:
    """One of the functions that a factory makes, with each run's own settings."""
    factory = get_method(getattr(blueprint, group))
    fixed, own = below(blueprint.numbers, group), below(tensors, f"settings/{group}")

    def call(own: Tensors, *given: Tensor) -> Any:
        return getattr(factory(**(fixed | own)), name)(*given)

    return partial(blueprint.each(call), own)
