"""A pool of Slurm jobs, submitted as arrays.

Slurm's own requeueing is off. What is preempted or runs out of time saves a checkpoint and is
submitted again here, so that it can be told from a job that a node took down with it.
"""

import getpass
import hashlib
import importlib.util
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from gan.errors import Interrupted, UserError
from gan.files import write_text
from gan.launchers.attempt import LOCK_PATIENCE, attempt, placed
from gan.launchers.pool import Ended, Event, Requeued, Started, Task, withdrawn
from gan.launchers.slots import Slot
from gan.launchers.tail import Tail, newest_checkpoint
from gan.run.result import FINISHED, objective, read_result
from gan.run.signals import PRUNE
from gan.sweep.directory import Sweep

POLL = 3.0
"""Seconds between questions to Slurm: its controller answers those of all users."""
PATIENCE = 60.0
"""Seconds in which a network file system shows what a job wrote on another machine."""
COMMAND_LIMIT = 60.0
"""Seconds that a command of Slurm's may take."""

FINAL = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)
"""The states in which Slurm has done with a job."""

GONE = "an unknown state"

log = logging.getLogger(__name__)


class SlurmPlaces:
    """A cluster, as the settings of hydra/launcher=slurm see it."""

    def __init__(self, settings: dict[str, Any]):
        self._settings = settings

    def check(self) -> None:
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm: there is no sbatch here, this is no Slurm cluster"
            )
        if importlib.util.find_spec("submitit") is None:
            raise UserError(
                'hydra/launcher=slurm: submitit is not installed; pip install -e ".[slurm]"'
            )

    def threads(self, device: str, jobs: int) -> int:
        return int(self._settings["cpus_per_task"])

    def count(self, device: str, threads: int) -> int | None:
        n_jobs: int | None = self._settings["n_jobs"]
        return n_jobs

    def width(self, device: str, threads: int) -> int | None:
        return self.count(device, threads)

    def pool(self, sweep: Sweep, names: list[str]) -> "SlurmPool":
        return SlurmPool(sweep, self._settings)


@dataclass
class _Job:
    """A task in Slurm's hands."""

    id: str
    """With the index in its array, such as 17_3."""
    task: Task
    tail: Tail
    checkpoint: str
    """The run's newest one when the job was submitted."""
    running: bool = False
    stopping: bool = False
    over: float | None = None
    """Since when it is known to have ended."""


class SlurmPool:
    """Tasks that come together become one array. While its jobs are in Slurm's hands, others
    follow as `n_jobs` allows."""

    def __init__(self, sweep: Sweep, settings: dict[str, Any]):
        """
        Raises:
            UserError: Slurm does not answer.
        """
        assert sweep.threads is not None
        self._folder = sweep.path.resolve() / ".slurm"
        self._log = sweep.workers_log
        self._threads = sweep.threads
        self._n_jobs: int | None = settings["n_jobs"]
        self._array_size: int = settings["array_size"]
        self._one_gpu: bool = settings["gpus_per_node"] > 0
        self._waiting: deque[Task] = deque()
        self._events: deque[Event] = deque()
        self._jobs: dict[str, _Job] = {}
        self._cancelled: list[str] = []
        self._looked = 0.0
        self._submitted = False
        self._complaint = ""
        title = re.sub(r"[^\w.=+-]", "_", sweep.path.resolve().name)
        # The jobs of this sweep, by what Slurm knows.
        digest = hashlib.sha256(str(self._folder).encode()).hexdigest()[:8]
        self._ours = ["--user", getpass.getuser(), "--name", f"{title}-{digest}"]
        self._executor = _executor(self._folder, self._ours[-1], sweep.threads, settings)
        self._end_those_of_a_dead_parent()

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def stop(self, name: str) -> None:
        if withdrawn(self._waiting, name):
            self._events.append(Ended(name, "interrupted"))
            return
        if job := self._jobs.get(name):
            job.stopping = True
            self._cancelled.append(job.id)

    def prune(self, name: str) -> None:
        if (job := self._jobs.get(name)) and PRUNE is not None:
            _slurm("scancel", f"--signal={PRUNE.name.removeprefix('SIG')}", "--full", job.id)

    def kill(self, name: str) -> None:
        if job := self._jobs.get(name):
            job.stopping = True
            _slurm("scancel", "--signal=KILL", "--full", job.id)
            self._cancelled.append(job.id)

    def wait(self, timeout: float) -> Event | None:
        if self._cancelled:
            every = all(job.stopping for job in self._jobs.values())
            _slurm("scancel", *(self._ours if every else self._cancelled))
            self._cancelled.clear()
        deadline = time.monotonic() + timeout
        while not self._events and (now := time.monotonic()) < deadline:
            if now - self._looked > POLL:
                self._look()
                self._submit_waiting()
                self._looked = time.monotonic()
            time.sleep(max(0.0, min(0.1, deadline - now)))
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        self._waiting.clear()
        if self._jobs:
            _slurm("scancel", *self._ours)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _submit_waiting(self) -> None:
        room = self._array_size
        if self._jobs and self._n_jobs:
            # The cap of an array knows nothing of other arrays.
            room = min(room, self._n_jobs - len(self._jobs))
        tasks = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if not tasks:
            return
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        for task in tasks:
            self._report(task.name).unlink(missing_ok=True)
        try:
            # Nothing comes out of it but what the exception says again.
            with redirect_stderr(StringIO()):
                submitted = self._executor.map_array(
                    work,
                    [placed(task.config, self._threads, one_gpu=self._one_gpu) for task in tasks],
                    [str(task.run_dir.resolve()) for task in tasks],
                    [task.overrides for task in tasks],
                    [str(self._report(task.name)) for task in tasks],
                )
        except (FailedJobError, FailedSubmissionError) as error:
            refused = f"Slurm takes no jobs: {complaint(str(error))}"
            if not self._submitted:
                raise UserError(refused) from None
            # It took some before: a limit is reached, or the controller is busy.
            self._complain(refused)
            self._waiting.extendleft(reversed(tasks))
            return
        self._submitted = True
        for task, job in zip(tasks, submitted, strict=True):
            checkpoint = newest_checkpoint(task.run_dir)
            self._jobs[task.name] = _Job(job.job_id, task, Tail(task), checkpoint)

    def _look(self) -> None:
        """Note what has happened to the jobs."""
        states = self._states() if self._jobs else {}
        if states is None:
            # A controller that is restarted, or has too much to do, will answer later.
            self._complain("Slurm does not answer")
            return
        for job in list(self._jobs.values()):
            state, code = states.get(job.id, (GONE, ""))
            if state == "RUNNING" and not job.running:
                job.running = True
                self._events.append(Started(job.task.name))
            if job.running:
                self._events.extend(job.tail.news())
            if state in FINAL or state == GONE:
                self._over(job, state, code)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s; going on to ask", text)

    def _states(self) -> dict[str, tuple[str, str]] | None:
        """The state and exit code of each job, those that ended of late included."""
        columns = "JobArrayID:|,State:|,exit_code:|"
        command = ["squeue", "--noheader", "--array", "--states=all", "--Format", columns]
        told = _slurm(*command, *self._ours)
        if told is None:
            return None
        rows = [line.strip().split("|") for line in told.splitlines() if line.strip()]
        return {row[0]: (row[1], row[2]) for row in rows}

    def _over(self, job: _Job, state: str, code: str) -> None:
        name = job.task.name
        event = self._ending(job, state, code)
        if event is None:
            return
        del self._jobs[name]
        self._clear_away(job)
        if isinstance(event, Requeued):
            self._waiting.append(job.task)
        self._events.append(event)

    def _ending(self, job: _Job, state: str, code: str) -> Ended | Requeued | None:
        """What the end of a job means; None while what it wrote is still to be seen."""
        name, run_dir = job.task.name, job.task.run_dir
        result = read_result(run_dir)
        if result and result["status"] in FINISHED:
            return Ended(name, result["status"], objective(result))
        if job.stopping:
            return Ended(name, "interrupted")
        report = self._read_report(name)
        status = report.get("status")
        if state == "COMPLETED" and (status is None or status in FINISHED):
            job.over = job.over or time.monotonic()
            if time.monotonic() - job.over < PATIENCE:
                return None
        if state == "CANCELLED":
            return Ended(name, "refused", reason=f"its Slurm job {job.id} was cancelled by scancel")
        if state == "PREEMPTED":
            return Requeued(name, f"its Slurm job {job.id} was preempted")
        if state == "TIMEOUT" or (state == "COMPLETED" and status == "interrupted"):
            if newest_checkpoint(run_dir) > job.checkpoint:
                return Requeued(name, f"its Slurm job {job.id} ran out of time")
            reason = f"its Slurm job {job.id} ran out of time before it saved a checkpoint"
            return Ended(name, "lost", reason=reason)
        if status in ("raised", "refused", "lost"):
            return Ended(name, status, reason=report["reason"])
        return Ended(name, "lost", reason=f"its Slurm job {job.id} ended in {state}{cause(code)}")

    def _report(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read_report(self, name: str) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads(self._report(name).read_text())
        except (OSError, ValueError):
            return {}
        return report

    def _clear_away(self, job: _Job) -> None:
        """Keep what the job complained of, and remove its files."""
        self._report(job.task.name).unlink(missing_ok=True)
        for path in self._folder.glob(f"{job.id}_*"):
            if path.suffix == ".err" and (text := path.read_bytes()):
                title = f"{job.task.name}, Slurm job {job.id}:\n".encode()
                with self._log.open("ab") as file:
                    file.write(title + text)
            path.unlink()

    def _end_those_of_a_dead_parent(self) -> None:
        """They run on where the process that submitted them was killed."""
        active = ["squeue", "--noheader", "--format=%i", *self._ours]
        left = _slurm(*active)
        if left is None:
            raise UserError("hydra/launcher=slurm: Slurm does not answer, try squeue")
        if left:
            log.warning("ending the Slurm jobs of an earlier process: %s", " ".join(left.split()))
        while left != "":
            _slurm("scancel", *self._ours)
            time.sleep(POLL)
            left = _slurm(*active)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()


def work(config: dict[str, Any], run_dir: str, overrides: list[str], report: str) -> None:
    """What a Slurm job does: an attempt at a run, and a report of how it ended."""
    began = False

    def tell(step: int, total: int, record: dict[str, Any] | None) -> None:
        nonlocal began
        began = True

    def stop(number: int, frame: FrameType | None) -> None:
        # Within the training this is another handler; both Slurm and srun send the signal.
        if not began:
            raise Interrupted(f"{run_dir}: stopped before its first step", 128 + number)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    # Comes before the time is up.
    signal.signal(signal.SIGUSR2, pass_on)
    ended = attempt(config, Path(run_dir), overrides, tell, patience=LOCK_PATIENCE)
    write_text(Path(report), json.dumps(ended))


def _executor(folder: Path, name: str, threads: int, settings: dict[str, Any]) -> Any:
    from submitit import SlurmExecutor

    cpus, gpus = settings["cpus_per_task"], settings["gpus_per_node"]
    exports = [f"export {key}={value}" for key, value in Slot(threads).environment().items()]
    executor = SlurmExecutor(folder, python=shlex.quote(sys.executable))
    executor.update_parameters(
        job_name=name,
        partition=settings["partition"],
        time=settings["time"],
        signal_delay_s=settings["signal_delay_s"],
        cpus_per_task=cpus,
        gpus_per_node=gpus or None,
        mem=settings["mem"],
        array_parallelism=settings["n_jobs"] or settings["array_size"],
        setup=[*settings["setup"], *exports],
        # Since Slurm 22.05, srun does not ask sbatch how many there are.
        srun_args=[f"--cpus-per-task={cpus}"],
        additional_parameters={"no_requeue": True, **settings["sbatch"]},
    )
    return executor


def cause(status: str) -> str:
    """What a wait status, as Slurm tells it, adds to a story."""
    code = os.waitstatus_to_exitcode(int(status or 0))
    # The shell's way to tell of a signal.
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f", killed by {signal.Signals(number).name}"
    return f", exit code {code}" if code else ""


def _slurm(*command: str) -> str | None:
    """What a command says; None where it failed."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT,
            # Ctrl-C on a terminal goes to the whole group.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        log.debug("%s: %s", " ".join(command), done.stderr.strip())
        return None
    return done.stdout


def complaint(text: str) -> str:
    """What sbatch said, in one line."""
    lines = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    return "; ".join(lines) or " ".join(text.split())
