"""Tasks that wait for a worker, and which of them may share one."""

import itertools
import math
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from gan.launchers.pool import Task, withdrawn


class Queue:
    """Hands tasks to workers in the order they came, those of one kind after those of another."""

    def __init__(
        self,
        workers: int,
        most: int = 1,
        kind: Callable[[dict[str, Any]], str] = lambda config: "",
    ):
        """
        Args:
            workers: among which the tasks of a kind are divided evenly.
            most: tasks of a worker at a time.
            kind: of a configuration; a worker has tasks of one kind at a time.
        """
        self._workers = workers
        self._most = most
        self._kind = kind
        self._waiting: dict[str, deque[Task]] = {}
        self._kinds: dict[str, str] = {}
        """By the name of a task."""
        self._numbers: dict[str, int] = {}
        """Of a task's latest attempt, in the order they came."""
        self._peaks: dict[str, int] = {}
        """How many tasks of a kind have waited at once."""
        self._caps: dict[str, int] = {}
        self._count = itertools.count()

    def add(self, task: Task) -> None:
        kind = self._kinds[task.name] = self._kind(task.config)
        self._numbers[task.name] = next(self._count)
        tasks = self._waiting.setdefault(kind, deque())
        tasks.append(task)
        self._peaks[kind] = max(self._peaks.get(kind, 0), len(tasks))

    def put_back(self, task: Task) -> None:
        """To where it was in the order, ahead of other kinds."""
        kind = self._kinds[task.name]
        tasks = self._waiting.pop(kind, deque())
        before = sum(self._numbers[other.name] < self._numbers[task.name] for other in tasks)
        tasks.insert(before, task)
        self._waiting = {kind: tasks, **self._waiting}

    def withdraw(self, name: str) -> bool:
        """Take a task out; False if it is not waiting."""
        return any(withdrawn(tasks, name) for tasks in self._waiting.values())

    def clear(self) -> None:
        self._waiting.clear()

    def cap(self, name: str) -> int:
        """The tasks of a worker, at most, that this one may be among."""
        return self._caps.get(name, self._most)

    def lower(self, name: str, cap: int) -> None:
        self._caps[name] = min(cap, self.cap(name))

    def take(self, held: Collection[str]) -> Task | None:
        """The next task for a worker that has these already, if there is one."""
        kinds = {self._kinds[name] for name in held} or list(self._waiting)
        for kind in kinds:
            share = math.ceil(self._peaks[kind] / self._workers)
            if len(held) >= min([share, *map(self.cap, held)]):
                continue
            for task in self._waiting.get(kind, ()):
                if len(held) < self.cap(task.name):
                    self._waiting[kind].remove(task)
                    return task
        return None
