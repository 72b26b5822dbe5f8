"""A pool of processes on this machine that are started once and take tasks as they come."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan.launchers.attempt import placed
from gan.launchers.pool import Ended, Event, Note, Progress, Requeued, Started, Task
from gan.launchers.queue import Queue
from gan.launchers.slots import Slot, share, slots
from gan.sweep.directory import Sweep


class LocalPlaces:
    """This machine, as the settings of hydra/launcher=local divide it."""

    def __init__(self, settings: dict[str, Any]):
        self._n_jobs: int | None = settings.get("n_jobs")
        self._workers_per_gpu: int = settings.get("workers_per_gpu", 1)

    def check(self) -> None:
        pass

    def threads(self, device: str, jobs: int) -> int:
        return share(device, jobs, self._n_jobs, self._workers_per_gpu)

    def count(self, device: str, threads: int) -> int:
        return len(self._slots(device, threads))

    def width(self, device: str, threads: int) -> int:
        return self.count(device, threads)

    def pool(self, sweep: Sweep, names: list[str]) -> "LocalPool":
        found = self.slots_for(sweep, names)
        return LocalPool(found, sweep.workers_log, Queue(len(found)))

    def slots_for(self, sweep: Sweep, names: list[str]) -> list[Slot]:
        """For these jobs, no more than can be of use."""
        assert sweep.threads is not None
        device = sweep.jobs[names[0]].config["device"]
        return self._slots(device, sweep.threads)[: len(names)]

    def _slots(self, device: str, threads: int) -> list[Slot]:
        return slots(device, threads, self._n_jobs, self._workers_per_gpu)


class LocalPool:
    """A worker for each slot, started when there is a task for it, replaced when it died.

    A thread that waits for the first time with a task for a slot must live as long as the pool:
    on Linux its end ends the worker.
    """

    def __init__(
        self,
        slots: list[Slot],
        log: Path,
        waiting: Queue,
        *,
        module: str = "gan.launchers.worker",
        settings: dict[str, Any] | None = None,
    ):
        """
        Args:
            log: takes what workers say outside of their runs.
            waiting: says which tasks a worker may have at a time.
            module: the program of a worker.
            settings: what it is told first, if anything.
        """
        self._slots = slots
        self._log = log
        self._waiting = waiting
        self._module = module
        self._settings = settings
        self._events: deque[Event] = deque()
        self._workers: dict[int, _Worker] = {}
        self._stopping: set[str] = set()
        self._messages: Messages = queue.SimpleQueue()

    def submit(self, task: Task) -> None:
        self._stopping.discard(task.name)
        self._waiting.add(task)

    def stop(self, name: str) -> None:
        if self._waiting.withdraw(name):
            self._events.append(Ended(name, "interrupted"))
            return
        if worker := self._holder(name):
            self._stopping.add(name)
            worker.send(stop=name)

    def prune(self, name: str) -> None:
        if worker := self._holder(name):
            worker.send(prune=name)

    def kill(self, name: str) -> None:
        if worker := self._holder(name):
            worker.killed.add(name)
            worker.process.kill()

    def wait(self, timeout: float) -> Event | None:
        # Not as each task comes: how many there are says how they are divided.
        self._assign()
        if not self._events:
            try:
                worker, message = self._messages.get(timeout=timeout)
            except queue.Empty:
                return None
            if message is None:
                self._bury(worker)
            else:
                self._hear(worker, message)
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
        self._workers.clear()

    def _assign(self) -> None:
        while chosen := self._next():
            index, task = chosen
            if index not in self._workers:
                self._workers[index] = _Worker(
                    self._slots[index], self._log, self._messages, self._module, self._settings
                )
            self._workers[index].start(task)

    def _next(self) -> tuple[int, Task] | None:
        """The next task, and its slot: of those that may have it, the one with the fewest."""
        held = {index: worker.tasks for index, worker in self._workers.items()}
        for index in sorted(range(len(self._slots)), key=lambda index: len(held.get(index, ()))):
            if index in self._workers and self._workers[index].retired:
                continue
            if task := self._waiting.take(held.get(index, ())):
                return index, task
        return None

    def _hear(self, worker: "_Worker", message: dict[str, Any]) -> None:
        kind = message.pop("event")
        if kind == "note":
            self._events.append(Note(**message))
        elif kind == "started":
            worker.started.add(message["name"])
            self._events.append(Started(**message))
        elif kind == "progress":
            self._events.append(Progress(**message))
        elif kind == "ended":
            worker.release(message["name"])
            if message["status"] == "raised":
                # What an exception left behind, on a GPU above all, is no place for another run,
                # and a run that raised is no company for others.
                worker.retired = True
                self._waiting.lower(message["name"], 1)
            self._events.append(Ended(**message))
        else:
            self._give_back(worker, message["name"], message["reason"], message["group"])
        if worker.retired and not worker.tasks:
            worker.dismiss()

    def _bury(self, worker: "_Worker") -> None:
        """Clear away a worker that ended, and tell of the tasks that it took along. Which of
        several is to blame is not known: groups of half the size find it out."""
        cause = _cause(worker.process.wait())
        self._workers = {i: other for i, other in self._workers.items() if other is not worker}
        names, killed = list(worker.tasks), worker.killed & set(worker.tasks)
        half = len(names) // 2
        guilty = killed if killed or half else set(names)
        for name in names:
            if name in guilty | self._stopping:
                worker.release(name)
                self._events.append(Ended(name, "lost", reason=f"its process {cause}"))
        for name in list(worker.tasks):
            if killed:
                reason = f"its group's process was ended because of {', '.join(sorted(killed))}"
                self._give_back(worker, name, reason)
            else:
                limit = f"in a group of at most {half}" if half > 1 else "alone"
                reason = f"its group's process {cause}; from now on {limit}"
                self._give_back(worker, name, reason, half)

    def _give_back(
        self, worker: "_Worker", name: str, reason: str, group: int | None = None
    ) -> None:
        """A task is to go on elsewhere, in a group of so many at most."""
        began = name in worker.started
        task = worker.release(name)
        if name in self._stopping:
            self._events.append(Ended(name, "interrupted"))
        elif group is not None and self._waiting.cap(name) == 1:
            # It was alone, and can have no better place.
            self._events.append(Ended(name, "lost", reason=reason))
        else:
            if group is not None:
                self._waiting.lower(name, group)
            self._waiting.put_back(task)
            if began:
                self._events.append(Requeued(name, reason))

    def _holder(self, name: str) -> "_Worker | None":
        return next((w for w in self._workers.values() if name in w.tasks), None)


class _Worker:
    """A process and the tasks it works at."""

    def __init__(
        self,
        slot: Slot,
        log: Path,
        messages: "Messages",
        module: str,
        settings: dict[str, Any] | None,
    ):
        self._slot = slot
        self.tasks: dict[str, Task] = {}
        self.started: set[str] = set()
        self.killed: set[str] = set()
        """Those for whose sake it was."""
        self.retired = False
        """It gets no more tasks."""
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | slot.environment(),
                # Ctrl-C on a terminal goes to the whole group; the parent passes it on itself.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()
        if settings is not None:
            self.send(settings=settings)

    def start(self, task: Task) -> None:
        self.tasks[task.name] = task
        config = placed(task.config, self._slot.threads, one_gpu=self._slot.gpu is not None)
        self.send(
            task={
                "name": task.name,
                "config": config,
                "run_dir": str(task.run_dir),
                "overrides": task.overrides,
            }
        )

    def release(self, name: str) -> Task:
        self.started.discard(name)
        return self.tasks.pop(name)

    def send(self, **message: Any) -> None:
        assert self.process.stdin
        # Where the worker has just died, the end of its output says so.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """It ends when its input does."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _listen(self, messages: "Messages") -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            # A worker that is killed while it writes leaves half a line.
            with suppress(ValueError):
                messages.put((self, json.loads(line)))
        messages.put((self, None))


Messages = queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
"""What workers say; None where one has ended."""


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
