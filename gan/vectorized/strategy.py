"""The ways in which a cohort can train its runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from gan.errors import NotSupported
from gan.run.run import Run
from gan.vectorized.run_set import RunSet, weight_sizes
from gan.vectorized.sequential import SequentialRuns
from gan.vectorized.stacked import StackedRuns


class Arrangement(Enum):
    """The runs that make their steps together. The texts are shown to people."""

    AS_CONFIGURED = "as configured"
    """One after the other, each run as its own configuration says."""
    SEQUENTIAL = "one after the other"
    STACKED = "together"
    """Narrow networks are padded to the width of the widest."""
    STACKED_BY_SIZE = "together by size"
    """Runs whose networks have the same sizes make their steps together."""


class Strategy(NamedTuple):
    """A way to train the runs of a cohort."""

    arrangement: Arrangement
    compiled: bool = False

    @property
    def is_stacked(self) -> bool:
        """Return whether several runs make their steps together."""
        return self.arrangement in (Arrangement.STACKED, Arrangement.STACKED_BY_SIZE)

    def __str__(self) -> str:
        return self.arrangement.value + (", compiled" if self.compiled else "")


AS_CONFIGURED = Strategy(Arrangement.AS_CONFIGURED)
SEQUENTIAL = Strategy(Arrangement.SEQUENTIAL)
STACKED = Strategy(Arrangement.STACKED)
STACKED_BY_SIZE = Strategy(Arrangement.STACKED_BY_SIZE)


@dataclass(frozen=True)
class CohortSettings:
    """The way in which a launcher wants its workers to train their runs.

    Args:
        vectorize: train several runs at a time. Otherwise they are trained one by one, each as its
            own configuration says, and the other settings are ignored.
        compile: compile where it is timed to be faster.
        cuda_graphs: capture stacked steps as CUDA graphs on a GPU.
        measure: time several strategies and keep the fastest. Otherwise runs are always stacked.
    """

    vectorize: bool
    compile: bool = False
    cuda_graphs: bool = False
    measure: bool = False


def make_run_sets(
    strategy: Strategy,
    runs: Sequence[Run],
    settings: CohortSettings,
    confirmed: set[object] | None = None,
) -> list[RunSet]:
    """Divide runs into sets that are trained by a strategy.

    Args:
        confirmed: see `StackedRuns`.

    Raises:
        NotSupported: the runs cannot be trained so. Nothing has changed.
    """
    make: Callable[..., Any]
    if strategy.is_stacked:
        capture = settings.cuda_graphs and runs[0].parts.device.type == "cuda"
        make = partial(StackedRuns, compile=strategy.compiled, capture=capture, confirmed=confirmed)
    else:
        as_configured = strategy == AS_CONFIGURED
        make = partial(SequentialRuns, compile=strategy.compiled, as_configured=as_configured)
    # A compiled program that runs share one after the other is compiled for one size.
    one_set = strategy.arrangement is Arrangement.STACKED or strategy in (SEQUENTIAL, AS_CONFIGURED)
    run_sets: list[RunSet] = []
    try:
        for alike in [runs] if one_set else by_size(runs):
            run_sets.append(make(alike))
    except NotSupported:
        for run_set in run_sets:
            for run in list(run_set.runs):
                run_set.leave(run)
        raise
    return run_sets


def by_size(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs whose networks have the same sizes."""
    groups: dict[object, list[Run]] = {}
    for run in runs:
        groups.setdefault(weight_sizes(run), []).append(run)
    return list(groups.values())
