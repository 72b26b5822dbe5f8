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

from gan.sweep.attempt import placed
from gan.sweep.directory import Sweep
from gan.sweep.pool import Ended, Event, Progress, Started, Task, withdrawn
from gan.sweep.slots import Slot, share, slots


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

    def pool(self, sweep: Sweep, names: list[str]) -> "LocalPool":
        assert sweep.threads is not None
        device = sweep.jobs[names[0]].config["device"]
        return LocalPool(self._slots(device, sweep.threads)[: len(names)], sweep.workers_log)

    def _slots(self, device: str, threads: int) -> list[Slot]:
        return slots(device, threads, self._n_jobs, self._workers_per_gpu)


class LocalPool:
    """A worker for each slot, started when there is a task for it, replaced when it died.

    A thread that submits the first task to a slot must live as long as the pool: on Linux its
    end ends the worker.
    """

    def __init__(self, slots: list[Slot], log: Path):
        self._slots = slots
        self._log = log
        self._waiting: deque[Task] = deque()
        self._dropped: deque[Ended] = deque()
        self._workers: dict[int, _Worker] = {}
        self._messages: queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]] = (
            queue.SimpleQueue()
        )

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        self._assign()

    def stop(self, name: str) -> None:
        if withdrawn(self._waiting, name):
            self._dropped.append(Ended(name, "interrupted"))
            return
        if worker := self._running(name):
            worker.send(stop=name)

    def prune(self, name: str) -> None:
        if worker := self._running(name):
            worker.send(prune=name)

    def kill(self, name: str) -> None:
        if worker := self._running(name):
            worker.process.kill()

    def wait(self, timeout: float) -> Event | None:
        if self._dropped:
            return self._dropped.popleft()
        try:
            worker, message = self._messages.get(timeout=timeout)
        except queue.Empty:
            return None
        if message is None:
            return self._buried(worker)
        kind = message.pop("event")
        if kind == "started":
            return Started(**message)
        if kind == "progress":
            return Progress(**message)
        worker.task = None
        if message["status"] == "raised":
            worker.retired = True
        self._assign()
        return Ended(**message)

    def close(self) -> None:
        self._waiting.clear()
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
        self._workers.clear()

    def _assign(self) -> None:
        for index, slot in enumerate(self._slots):
            if not self._waiting:
                return
            worker = self._workers.get(index)
            if worker is None:
                worker = self._workers[index] = _Worker(slot, self._log, self._messages)
            if worker.task is None and not worker.retired:
                worker.start(self._waiting.popleft())

    def _buried(self, worker: "_Worker") -> Event | None:
        """Clear away a worker that ended, and tell of the task that it took along."""
        code = worker.process.wait()
        index = next((i for i, other in self._workers.items() if other is worker), None)
        if index is None:
            return None
        del self._workers[index]
        task, worker.task = worker.task, None
        self._assign()
        return Ended(task.name, "lost", reason=_cause(code)) if task else None

    def _running(self, name: str) -> "_Worker | None":
        for worker in self._workers.values():
            if worker.task and worker.task.name == name:
                return worker
        return None


class _Worker:
    """A process and the task it works at."""

    def __init__(
        self,
        slot: Slot,
        log: Path,
        messages: "queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]",
    ):
        self._slot = slot
        self.task: Task | None = None
        self.retired = False
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gan.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | slot.environment(),
                # Ctrl-C on a terminal goes to the whole group; the parent passes it on itself.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def start(self, task: Task) -> None:
        self.task = task
        config = placed(task.config, self._slot.threads, one_gpu=self._slot.gpu is not None)
        self.send(
            task={
                "name": task.name,
                "config": config,
                "run_dir": str(task.run_dir),
                "overrides": task.overrides,
            }
        )

    def send(self, **message: Any) -> None:
        assert self.process.stdin
        # Where the worker has just died, the end of its output says so.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _listen(self, messages: "queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]") -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            # A worker that is killed while it writes leaves half a line.
            with suppress(ValueError):
                messages.put((self, json.loads(line)))
        messages.put((self, None))


def _cause(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"its process was killed by {name}{hint}"
