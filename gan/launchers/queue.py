"""Attempts that wait for a worker, and which of them may share one."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from gan.launchers.base import take_out
from gan.run.attempt import Attempt


class Queue:
    """Hands attempts to workers in the order in which they came, one compatibility key at a time.

    Args:
        workers: the number of workers, among which the attempts of a key are divided evenly.
        max_runs: the number of attempts that a worker may hold at a time.
        key: returns the compatibility key of a configuration. A worker holds attempts of one key.
    """

    def __init__(
        self,
        workers: int,
        max_runs: int = 1,
        key: Callable[[dict[str, Any]], str] = lambda config: "",
    ):
        self._workers = workers
        self._max_runs = max_runs
        self._key = key
        self._waiting: dict[str, deque[Attempt]] = {}
        self._keys: dict[str, str] = {}
        """The key of each attempt, by name."""
        self._numbers: dict[str, int] = {}
        """The place of each attempt in the order in which they came, by name."""
        self._peaks: dict[str, int] = {}
        """The largest number of attempts of a key that have waited at the same time."""
        self._limits: dict[str, int] = {}
        """The largest number of attempts in a worker that holds this one, by name."""
        self._count = itertools.count()

    def add(self, attempt: Attempt) -> None:
        """Put an attempt at the end."""
        key = self._keys[attempt.name] = self._key(attempt.config)
        self._numbers[attempt.name] = next(self._count)
        attempts = self._waiting.setdefault(key, deque())
        attempts.append(attempt)
        self._peaks[key] = max(self._peaks.get(key, 0), len(attempts))

    def put_back(self, attempt: Attempt) -> None:
        """Put an attempt back to where it was, before attempts of other keys."""
        key = self._keys[attempt.name]
        attempts = self._waiting.pop(key, deque())
        earlier = sum(self._numbers[o.name] < self._numbers[attempt.name] for o in attempts)
        attempts.insert(earlier, attempt)
        self._waiting = {key: attempts, **self._waiting}

    def withdraw(self, name: str) -> bool:
        """Take an attempt out; return whether it was waiting."""
        return any(take_out(attempts, name) for attempts in self._waiting.values())

    def clear(self) -> None:
        """Take all attempts out."""
        self._waiting.clear()

    def limit(self, name: str) -> int:
        """Return the number of attempts that this one may share a worker with, itself included."""
        return self._limits.get(name, self._max_runs)

    def lower_limit(self, name: str, limit: int) -> None:
        """Lower the limit of an attempt."""
        self._limits[name] = min(limit, self.limit(name))

    def take(self, held: Collection[str]) -> Attempt | None:
        """Return the next attempt for a worker that holds these; None if none fits."""
        keys = {self._keys[name] for name in held} or list(self._waiting)
        for key in keys:
            share = math.ceil(self._peaks[key] / self._workers)
            if len(held) >= min([share, *map(self.limit, held)]):
                continue
            for attempt in self._waiting.get(key, ()):
                if len(held) < self.limit(attempt.name):
                    self._waiting[key].remove(attempt)
                    return attempt
        return None
