"""The local launcher: worker processes on this machine that take attempts as they come."""

import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan.launchers.base import Ended, Event, Launcher, Note, Progress, Requeued, Started
from gan.launchers.messages import attempt_message
from gan.launchers.queue import Queue
from gan.launchers.slots import Slot, make_slots, threads_per_run
from gan.run.attempt import Attempt, Ending
from gan.run.result import Status
from gan.system.invocation import module_command
from gan.system.startup import fast_imports


class LocalLauncher(Launcher):
    """A worker for each slot, started when there is an attempt for it, and replaced when it dies.

    Call `wait` from one thread only: on Linux, a worker ends with the thread that started it.
    """

    worker_module = "gan.launchers.worker"
    """The program of a worker."""

    def __init__(self, *, workers_per_gpu: int = 1, **settings: Any):
        super().__init__(**settings)
        self.workers_per_gpu = workers_per_gpu
        self._slots: list[Slot] = []
        self._queue = Queue(1)
        self._events: deque[Event] = deque()
        self._workers: dict[int, _Worker] = {}
        self._stopping: set[str] = set()
        self._messages: Messages = queue.SimpleQueue()

    def threads_per_run(self, device: str, runs: int) -> int:
        """See Launcher."""
        return threads_per_run(device, runs, self.n_jobs, self.workers_per_gpu)

    def max_running(self, device: str, threads: int) -> int:
        """See Launcher."""
        return len(self.slots(device, threads))

    def start(self, folder: Path, log: Path, *, device: str, threads: int, runs: int) -> None:
        """See Launcher."""
        if device not in ("auto", "cpu"):
            # Only torch knows which devices it can use, and takes seconds to import.
            with fast_imports():
                from gan.build import find_device

            find_device(device)
        # More slots than runs are of no use.
        self.use(self.slots(device, threads)[:runs], log)

    def use(self, slots: list[Slot], log: Path) -> None:
        """Use these slots, and a log file for what workers say outside of their runs."""
        self._slots, self._log = slots, log
        self._queue = self.make_queue(len(slots))

    def slots(self, device: str, threads: int) -> list[Slot]:
        """Return the slots of this machine for runs of so many threads."""
        return make_slots(device, threads, self.n_jobs, self.workers_per_gpu)

    def make_queue(self, workers: int) -> Queue:
        """Return the queue that decides which attempts a worker may hold at a time."""
        return Queue(workers)

    def worker_settings(self) -> dict[str, Any]:
        """Return the fields of gan.vectorized.strategy.CohortSettings for the workers."""
        return {"vectorize": False}

    def submit(self, attempt: Attempt) -> None:
        """See Launcher."""
        self._stopping.discard(attempt.name)
        self._queue.add(attempt)

    def stop(self, name: str) -> None:
        """See Launcher."""
        if self._queue.withdraw(name):
            self._events.append(Ended(name, Ending(Status.INTERRUPTED)))
            return
        if worker := self._holder(name):
            self._stopping.add(name)
            if name in worker.training or len(worker.attempts) > 1:
                worker.send(stop=name)
            else:
                # A run that is not ready for its first step hears nothing and has nothing to save.
                worker.process.kill()

    def prune(self, name: str) -> None:
        """See Launcher."""
        if worker := self._holder(name):
            worker.send(prune=name)

    def kill(self, name: str) -> None:
        """See Launcher."""
        if worker := self._holder(name):
            worker.killed_for.add(name)
            worker.process.kill()

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        # Attempts are assigned here and not as each of them comes, because their number decides how
        # they are divided among the workers.
        self._assign()
        if not self._events:
            try:
                worker, message = self._messages.get(timeout=timeout)
            except queue.Empty:
                return None
            if message is None:
                self._clear_away(worker)
            else:
                self._handle(worker, message)
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See Launcher."""
        self._queue.clear()
        for worker in self._workers.values():
            worker.process.kill()
        for worker in self._workers.values():
            worker.process.wait()
        self._workers.clear()

    def _assign(self) -> None:
        while assignment := self._next_assignment():
            index, attempt = assignment
            if index not in self._workers:
                self._workers[index] = _Worker(
                    self._slots[index],
                    self._log,
                    self._messages,
                    self.worker_module,
                    self.worker_settings(),
                )
            self._workers[index].start(attempt)

    def _next_assignment(self) -> tuple[int, Attempt] | None:
        """Return the next attempt and its slot: of those that may hold it, the least busy one."""
        held = {index: worker.attempts for index, worker in self._workers.items()}
        for index in sorted(range(len(self._slots)), key=lambda index: len(held.get(index, ()))):
            if index in self._workers and self._workers[index].is_retired:
                continue
            if attempt := self._queue.take(held.get(index, ())):
                return index, attempt
        return None

    def _handle(self, worker: "_Worker", message: dict[str, Any]) -> None:
        """Turn a worker's message into an event."""
        kind = message.pop("event")
        if kind == "note":
            self._events.append(Note(**message))
        elif kind == "started":
            worker.begun.add(message["name"])
            self._events.append(Started(**message))
        elif kind == "progress":
            worker.training.add(message["name"])
            self._events.append(Progress(**message))
        elif kind == "ended":
            name, ending = message.pop("name"), Ending(**message)
            ending = ending._replace(status=Status(ending.status))
            worker.release(name)
            if ending.status is Status.RAISED:
                # An exception leaves things behind, on a GPU above all. So no other run comes into
                # this process, and this one does not share a process again.
                worker.is_retired = True
                self._queue.lower_limit(name, 1)
            self._events.append(Ended(name, ending))
        else:
            self._give_back(worker, message["name"], message["reason"], message["max_runs"])
        if worker.is_retired and not worker.attempts:
            worker.dismiss()

    def _clear_away(self, worker: "_Worker") -> None:
        """Clear away a worker that ended, and decide what becomes of the attempts that it held.

        If it held several, it is not known which one is to blame. Cohorts of half the size find
        that out.
        """
        cause = _cause(worker.process.wait())
        self._workers = {i: other for i, other in self._workers.items() if other is not worker}
        names, killed_for = list(worker.attempts), worker.killed_for & set(worker.attempts)
        half = len(names) // 2
        to_blame = killed_for if killed_for or half else set(names)
        for name in names:
            if name in to_blame | self._stopping:
                worker.release(name)
                ending = Ending(Status.LOST, reason=f"its process {cause}")
                self._events.append(Ended(name, ending))
        for name in list(worker.attempts):
            if killed_for:
                culprits = ", ".join(sorted(killed_for))
                reason = f"its cohort's process was ended because of {culprits}"
                self._give_back(worker, name, reason)
            else:
                limit = f"in a cohort of at most {half}" if half > 1 else "alone"
                reason = f"its cohort's process {cause}; from now on {limit}"
                self._give_back(worker, name, reason, half)

    def _give_back(
        self, worker: "_Worker", name: str, reason: str, max_runs: int | None = None
    ) -> None:
        """Put an attempt back into the queue, to go on in a cohort of at most `max_runs`."""
        has_begun = name in worker.begun
        attempt = worker.release(name)
        if name in self._stopping:
            self._events.append(Ended(name, Ending(Status.INTERRUPTED)))
        elif max_runs is not None and self._queue.limit(name) == 1:
            # It was alone, and no better place can be found for it.
            self._events.append(Ended(name, Ending(Status.LOST, reason=reason)))
        else:
            if max_runs is not None:
                self._queue.lower_limit(name, max_runs)
            self._queue.put_back(attempt)
            if has_begun:
                self._events.append(Requeued(name, reason))

    def _holder(self, name: str) -> "_Worker | None":
        return next((w for w in self._workers.values() if name in w.attempts), None)


class _Worker:
    """A worker process and the attempts that it holds."""

    def __init__(
        self,
        slot: Slot,
        log: Path,
        messages: "Messages",
        module: str,
        settings: dict[str, Any],
    ):
        self._slot = slot
        self.attempts: dict[str, Attempt] = {}
        self.begun: set[str] = set()
        """The names of the attempts that have begun."""
        self.training: set[str] = set()
        """The names of the attempts that are ready for a step, or have made some."""
        self.killed_for: set[str] = set()
        """The names of the attempts because of which the process was killed."""
        self.is_retired = False
        """The worker gets no more attempts."""
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                module_command(module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | slot.environment(),
                # Ctrl-C on a terminal goes to the whole group. The parent passes it on itself.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()
        self.send(settings=settings)

    def start(self, attempt: Attempt) -> None:
        """Hand an attempt to the process."""
        self.attempts[attempt.name] = attempt
        one_gpu = self._slot.gpu is not None
        self.send(**attempt_message(attempt, self._slot.threads, one_gpu=one_gpu))

    def release(self, name: str) -> Attempt:
        """Forget an attempt that is over, or goes on elsewhere."""
        self.begun.discard(name)
        self.training.discard(name)
        return self.attempts.pop(name)

    def send(self, **message: Any) -> None:
        """Send a message to the process."""
        assert self.process.stdin
        # If the worker has just died, the end of its output says so.
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def dismiss(self) -> None:
        """Let the process end, which it does when its input ends."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _listen(self, messages: "Messages") -> None:
        assert self.process.stdout
        with self.process.stdout as output:
            for line in output:
                # A worker that is killed while it writes leaves half a line.
                with suppress(ValueError):
                    messages.put((self, json.loads(line)))
        messages.put((self, None))


Messages = queue.SimpleQueue[tuple[_Worker, dict[str, Any] | None]]
"""Messages of workers; None where a worker has ended."""


def _cause(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
