"""Training several runs as one program."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gan.functional.alone import leave_gradients, on_device
from gan.functional.compiled import Program, blueprint, check
from gan.functional.tensors import as_tensors, numbers, tensors, varied
from gan.step import Batch, due, next_batch, passed
from gan.vectorized.costs import Costs
from gan.vectorized.member import Member
from gan.vectorized.stack import put, release, stack
from gan.vectorized.team import in_phase


class Stacked:
    """All in one program, step by step.

    The place of a member that left stays, and goes on with what was in it, until another one
    takes it.

    Raises:
        Unfit: they cannot be trained in this way; nothing has changed.
    """

    def __init__(self, members: Sequence[Member], *, compile: bool = False, capture: bool = False):
        self._places: list[Member | None] = list(members)
        self.costs = Costs(members[0].running.parts.device)
        self._own = {m: tensors(m.running.parts, m.running.state) for m in members}
        every = [numbers(member.running.cfg) for member in members]
        names = varied(every)
        # Its modules hold sizes.
        widest = max(members, key=lambda m: sum(t.numel() for t in self._own[m].values()))
        made = blueprint(widest.running.cfg, widest.running.parts, varied=names, stacked=True)
        settings = as_tensors(every, names, widest.running.parts.device)
        own_settings = {f"settings/{name}": value for name, value in settings.items()}
        example = {name: torch.stack([t, t]) for name, t in self._own[widest].items()}
        some = {name: value[:2] for name, value in own_settings.items()}
        if len(members) > 1:
            check(made, example | some, _example(widest))
        self._program = Program(made, compile=compile, capture=capture)
        self._stack = stack([self._own[member] for member in members]) | own_settings

    @property
    def members(self) -> list[Member]:
        return [member for member in self._places if member]

    def train(self, seconds: float) -> None:
        until, members = time.monotonic() + seconds, self.members
        while not any(member.due for member in members):
            begun = self.costs.begin()
            first = members[0].running
            turns = due(first.parts, first.state.step)
            given = {
                m: next_batch(m.running.parts, m.running.state, m.running.batches) for m in members
            }
            batch = _together([given[member or members[0]] for member in self._places])
            played = self._program(self._stack, batch, **turns)
            for member in members:
                passed(member.running.state, **turns)
            self.costs.end(begun, turns, len(members))
            for index, place in enumerate(self._places):
                if place and place.due:
                    leave_gradients(place.running.parts, played, index)
            if time.monotonic() > until:
                return

    def join(self, member: Member) -> bool:
        made, first = self._program.blueprint, self.members
        own = numbers(member.running.cfg)
        if None not in self._places or not made.covers(own):
            return False
        if first and not in_phase(member, first[0]):
            return False
        held = tensors(member.running.parts, member.running.state)
        index = self._places.index(None)
        if not put(held, self._stack, index):
            return False
        settings = as_tensors([own], made.varied, member.running.parts.device)
        for name, value in settings.items():
            self._stack[f"settings/{name}"][index] = value[0]
        self._places[index], self._own[member] = member, held
        return True

    def leave(self, member: Member) -> None:
        self._places[self._places.index(member)] = None
        release(self._own.pop(member))


def _example(member: Member) -> Batch:
    """The batch of two such members, for a step in which everything happens."""
    running = member.running
    all_at_once = running.parts._replace(penalty_interval=1, n_critic=1)
    state = running.state
    noise = state.noise.get_state()
    batch = next_batch(all_at_once, state, running.batches)
    state.noise.set_state(noise)
    return _together([batch, batch])


def _together(batches: Sequence[Batch]) -> Batch:
    def stacked(*parts: Tensor) -> Tensor:
        return torch.stack(parts)

    first, *others = batches
    together: Batch = pytree.tree_map(stacked, first, *others)
    return on_device(together)
