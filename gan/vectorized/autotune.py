"""Finding the best way to train the members of a group: by timing steps that are made anyway."""

import math

from gan.errors import Unfit
from gan.vectorized.cohort import Group
from gan.vectorized.strategy import BY_SIZE, COMPILED, IN_TURN, TOGETHER, by_size
from gan.vectorized.team import period

WORTH = 0.95
"""Another way must take less than this part of the time."""
HOPELESS = 1.3
"""Beyond so many times the best, timing is broken off."""
TRYING = 120.0
"""Seconds of training left, from which on other ways than one after the other are tried."""
COMPILING = 180.0
"""The same for compiling."""
OBSERVED = 12
"""Steps that are timed at least."""


class Chooser:
    """Remembers what was best, and what is no way at all."""

    def __init__(self, group: Group):
        self._group = group
        self._best: dict[str, str] = {}
        """The best way, by what members have in common."""
        self._unfit: set[tuple[str, str]] = set()

    def choose(self) -> None:
        """Arrange the group in the best way for those who are in it; in none if someone comes or
        goes meanwhile."""
        kind = self._group.kind
        if kind in self._best:
            self._again(self._best[kind])
        elif best := self._measured():
            self._best[kind] = best
            self._group.settle()

    def reject(self, error: Unfit) -> None:
        """The way in which the group is arranged is none."""
        way, kind = self._group.way, self._group.kind
        self._group.tell.note(f"{way}: not these runs, {error}")
        self._group.dissolve()
        self._unfit.add((kind, way))
        if self._best.get(kind) == way:
            del self._best[kind]

    def _again(self, way: str) -> None:
        plain = way.removesuffix(COMPILED) if len(self._group.members) > 1 else IN_TURN
        self._group.arrange(plain)
        if way == plain + COMPILED and self._group.members:
            cost = self._time(plain, math.inf)
            if cost is not None and _pays(self._group, cost):
                self._group.arrange(way)

    def _measured(self) -> str | None:
        """The best way, in which the group is arranged then; None if someone came or went."""
        group = self._group
        costs: dict[str, float] = {}
        if not group.settings["measure"]:
            group.admit()
        ways = self._ways()
        while ways:
            way = ways.pop(0)
            cost = self._time(way, min(costs.values(), default=math.inf))
            if cost is None:
                return None
            costs[way] = cost
            if way == IN_TURN and group.left * cost > TRYING:
                group.admit()
                ways = self._ways()[1:]
        best = min(costs, key=lambda way: costs[way] * (WORTH if way == IN_TURN else 1.0))
        if math.isinf(costs[best]):
            return None
        way = best + COMPILED
        if (group.kind, way) not in self._unfit and _pays(group, costs[best]):
            cost = self._time(way, costs[best])
            if cost is None:
                return None
            costs[way] = cost
            if cost < WORTH * costs[best]:
                best = way
        if group.way != best or not group.teams:
            group.arrange(best)
        _tell(group, costs)
        return best

    def _ways(self) -> list[str]:
        members, kind = self._group.members, self._group.kind
        fit = [way for way in (TOGETHER, BY_SIZE) if (kind, way) not in self._unfit]
        if len(members) == 1 or not fit:
            return [IN_TURN]
        if not self._group.settings["measure"]:
            return fit[:1]
        return [IN_TURN, *(fit if len(by_size(members)) > 1 else fit[:1])]

    def _time(self, way: str, best: float) -> float | None:
        """Seconds that a step of one member takes; infinite if it is no way at all, and None if
        someone came or went."""
        group, needed = self._group, _steps(self._group)
        changes = group.changes
        try:
            group.arrange(way)
            while group.changes == changes:
                group.turn()
                group.look()
                costs = [team.costs for team in group.teams]
                count, median = costs[0].usual() if costs else (0, 0.0)
                if count > 3 and median > HOPELESS * best:
                    break
                if costs and all(cost.steps >= needed for cost in costs):
                    break
        except Unfit as error:
            self.reject(error)
            return math.inf
        if group.changes != changes:
            group.dissolve()
            return None
        for cost in costs:
            cost.measuring = False
        share = [len(team.members) / len(group.members) for team in group.teams]
        return sum(part * cost.mean() for part, cost in zip(share, costs, strict=True))


def _steps(group: Group) -> int:
    """To be timed, so that all kinds of steps are among them."""
    return max(OBSERVED, 3 * period(group.members[0]))


def _pays(group: Group, cost: float) -> bool:
    """Whether compiling may pay, where a step of one member takes so many seconds."""
    # Who asks for it has decided.
    asked = group.members[0].running.cfg.trainer.compile
    return asked or (group.settings["compile"] and group.left * cost > COMPILING)


def _tell(group: Group, costs: dict[str, float]) -> None:
    if len(group.members) > 1:
        found = ", ".join(f"{way} {1000 * cost:.2f} ms" for way, cost in costs.items())
        group.tell.note(f"{len(group.members)} runs in a process, a step of each: {found}")
