"""The vectorized launcher: workers on this machine that train many runs each."""

from typing import Any

from gan.launchers.local import LocalLauncher
from gan.launchers.queue import Queue
from gan.vectorized.compatible import compatibility_key

MAX_RUNS = 64
"""Runs that a cohort is offered. A cohort gives some back if there is not the memory for them."""
MAX_RUNS_IN_SEARCH = 8
"""Runs of a cohort in a search. With more, points are chosen before others have taught anything."""


class VectorizedLauncher(LocalLauncher):
    """A local launcher whose workers train cohorts of many runs."""

    def __init__(
        self,
        *,
        max_group: int | None = None,
        compile: bool = True,
        cuda_graphs: bool = True,
        measure: bool = True,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.max_group = max_group
        self._worker_settings = {
            "vectorize": True,
            "compile": compile,
            "cuda_graphs": cuda_graphs,
            "measure": measure,
        }

    def max_running(self, device: str, threads: int) -> int:
        """See Launcher."""
        return super().max_running(device, threads) * (self.max_group or MAX_RUNS)

    def max_running_in_search(self, device: str, threads: int) -> int:
        """See Launcher."""
        return super().max_running(device, threads) * (self.max_group or MAX_RUNS_IN_SEARCH)

    def make_queue(self, workers: int) -> Queue:
        """See LocalLauncher."""
        return Queue(workers, self.max_group or MAX_RUNS, compatibility_key)

    def worker_settings(self) -> dict[str, Any]:
        """See LocalLauncher."""
        return self._worker_settings
