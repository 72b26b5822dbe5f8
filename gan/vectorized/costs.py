"""What a step of a member takes."""

import statistics
import time

import torch

Turns = tuple[bool, bool]
"""What happens in a step: the penalty, the generator's update."""


class Costs:
    """Seconds that a step of one member takes."""

    def __init__(self, device: torch.device):
        self._device = device
        self._seconds: dict[Turns, list[float]] = {}
        self.measuring = True

    def begin(self) -> float:
        # Waiting for a GPU costs more than it tells, once all is chosen.
        if self.measuring and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def end(self, begun: float, turns: dict[str, bool], members: int) -> None:
        if self.measuring:
            kind = turns["penalize"], turns["update_generator"]
            self._seconds.setdefault(kind, []).append((self.begin() - begun) / members)

    @property
    def steps(self) -> int:
        return sum(map(len, self._seconds.values()))

    def usual(self) -> tuple[int, float]:
        """How many steps there were of the commonest kind, the first not counted, and their
        median."""
        most = max(self._seconds.values(), key=len, default=[])[1:]
        return len(most), statistics.median(most) if most else 0.0

    def mean(self) -> float:
        """Over steps of all kinds, as often as they come."""
        total = 0.0
        for seconds in self._seconds.values():
            # The first one sets things up, or compiles.
            total += statistics.median(seconds[1:] or seconds) * len(seconds)
        return total / self.steps
