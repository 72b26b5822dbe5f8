"""What every way to train several runs has in common."""

import math
from typing import Protocol

from gan.vectorized.costs import Costs
from gan.vectorized.member import Member


class Team(Protocol):
    """Runs that are trained together."""

    @property
    def members(self) -> list[Member]: ...

    @property
    def costs(self) -> Costs: ...

    def train(self, seconds: float) -> None:
        """Make steps until one of the members has something due, or the time is up.

        Raises:
            Failed: a member's own step failed.
            Exception: a step of all of them did; their state is not to be trusted.
        """

    def join(self, member: Member) -> bool:
        """Take another one in; False if there is no place."""

    def leave(self, member: Member) -> None:
        """Let one go, with memory of its own."""


class Failed(Exception):
    """A step of one member failed, the others are as they were."""

    def __init__(self, member: Member, error: Exception):
        super().__init__(str(error))
        self.member, self.error = member, error


def in_phase(one: Member, other: Member) -> bool:
    """Whether the same happens in the steps of both from now on."""
    return (one.step - other.step) % period(one) == 0


def period(member: Member) -> int:
    """Steps after which what happens in them repeats."""
    parts = member.running.parts
    return math.lcm(parts.penalty_interval if parts.penalty else 1, parts.n_critic)
