"""Workers on this machine that train runs together."""

from typing import Any

from gan.launchers.local import LocalPlaces, LocalPool
from gan.launchers.queue import Queue
from gan.sweep.directory import Sweep
from gan.vectorized.compatible import signature

MOST = 64
"""Members that a group is asked to have; where there is not the memory, it gives some back."""
SEARCHED = 8
"""Members of a group in a search: with more, its points are chosen before others have taught it
anything."""


class VectorizedPlaces(LocalPlaces):
    """This machine, as the settings of hydra/launcher=vectorized divide it."""

    def __init__(self, settings: dict[str, Any]):
        super().__init__(settings)
        self._max_group: int | None = settings["max_group"]
        self._how = {name: settings[name] for name in ("compile", "cuda_graphs", "measure")}

    def count(self, device: str, threads: int) -> int:
        return super().count(device, threads) * (self._max_group or MOST)

    def width(self, device: str, threads: int) -> int:
        return super().count(device, threads) * (self._max_group or SEARCHED)

    def pool(self, sweep: Sweep, names: list[str]) -> LocalPool:
        found = self.slots_for(sweep, names)
        return LocalPool(
            found,
            sweep.workers_log,
            Queue(len(found), self._max_group or MOST, signature),
            module="gan.launchers.group_worker",
            settings=self._how,
        )
