"""Training several runs one after the other."""

import time
from collections.abc import Sequence

from gan.errors import Unfit
from gan.functional.alone import advance_by
from gan.functional.compiled import Program, blueprint
from gan.functional.tensors import Tensors, as_tensors, numbers, tensors, varied
from gan.step import advance, due
from gan.vectorized.costs import Costs
from gan.vectorized.member import Member, sizes
from gan.vectorized.team import Failed


class InTurn:
    """One after the other to its end, each as if it were alone or by a program that all share."""

    def __init__(self, members: Sequence[Member], *, compile: bool = False):
        self.members = list(members)
        self.costs = Costs(members[0].running.parts.device)
        self._program: Program | None = None
        if compile:
            names = varied([numbers(member.running.cfg) for member in members])
            first = members[0].running
            self._program = Program(blueprint(first.cfg, first.parts, varied=names), compile=True)
        self._sizes = sizes(members[0])
        self._tensors = {member: self._own(member) for member in members}

    def train(self, seconds: float) -> None:
        if not self.members:
            return
        member, until = self.members[0], time.monotonic() + seconds
        while not member.due:
            begun, turns = self.costs.begin(), due(member.running.parts, member.step)
            try:
                self._step(member)
            except Unfit:
                raise
            except Exception as error:
                raise Failed(member, error) from error
            self.costs.end(begun, turns, 1)
            if time.monotonic() > until:
                return

    def join(self, member: Member) -> bool:
        if self._program:
            covered = self._program.blueprint.covers(numbers(member.running.cfg))
            if not covered or sizes(member) != self._sizes:
                return False
        self.members.append(member)
        self._tensors[member] = self._own(member)
        return True

    def leave(self, member: Member) -> None:
        self.members.remove(member)
        del self._tensors[member]

    def _own(self, member: Member) -> Tensors:
        if not self._program:
            return {}
        running = member.running
        settings = as_tensors(
            [numbers(running.cfg)], self._program.blueprint.varied, running.parts.device
        )
        own = {f"settings/{name}": value[0] for name, value in settings.items()}
        return tensors(running.parts, running.state) | own

    def _step(self, member: Member) -> None:
        parts, state, batches = member.running.parts, member.running.state, member.running.batches
        if not self._program:
            advance(parts, state, batches)
        else:
            advance_by(self._program, self._tensors[member], parts, state, batches)
