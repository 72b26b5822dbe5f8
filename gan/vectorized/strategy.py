"""Who trains with whom."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypedDict

from gan.vectorized.member import Member, sizes
from gan.vectorized.sequential import InTurn
from gan.vectorized.stacked import Stacked
from gan.vectorized.team import Team

IN_TURN, TOGETHER, BY_SIZE = "one after the other", "together", "together by size"
COMPILED = ", compiled"


class Settings(TypedDict):
    """Of hydra/launcher=vectorized."""

    compile: bool
    cuda_graphs: bool
    measure: bool


def teams(way: str, members: Sequence[Member], settings: Settings) -> list[Team]:
    """
    Args:
        way: IN_TURN, TOGETHER (narrow networks are padded to the widest) or BY_SIZE, or one of
            these with COMPILED at its end.

    Raises:
        Unfit: it is no way to train these; nothing has changed.
    """
    compiled = way.endswith(COMPILED)
    plan = way.removesuffix(COMPILED)
    cuda = members[0].running.parts.device.type == "cuda"
    if plan == IN_TURN:
        make: Callable[..., Any] = partial(InTurn, compile=compiled)
    else:
        make = partial(Stacked, compile=compiled, capture=settings["cuda_graphs"] and cuda)
    # What is compiled is compiled for one size.
    whole = plan == TOGETHER or way == IN_TURN
    return [make(alike) for alike in ([members] if whole else by_size(members))]


def by_size(members: Sequence[Member]) -> list[list[Member]]:
    """Those whose networks have the same sizes, in groups."""
    found: dict[tuple[int, ...], list[Member]] = {}
    for member in members:
        found.setdefault(sizes(member), []).append(member)
    return list(found.values())
