"""The Slurm launcher: jobs of a Slurm cluster, submitted as arrays.

Slurm's own requeueing is off. A job that is preempted or runs out of time saves a checkpoint and is
submitted again from here, so that it can be told from a job that a failing node took down.
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
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from gan.errors import Interrupted, UserError
from gan.files import write_text
from gan.launchers.attempt import (
    LOCK_PATIENCE,
    RunFollower,
    execute,
    newest_checkpoint,
    place_config,
)
from gan.launchers.base import Ended, Event, Requeued, plain
from gan.launchers.cluster import ClusterJob, ClusterLauncher, finished_ending
from gan.launchers.followers import Place
from gan.launchers.slots import Slot
from gan.run.attempt import Attempt, Ending
from gan.run.result import FINISHED, Status
from gan.run.signals import PRUNE

SECONDS_BETWEEN_POLLS = 3.0
"""Seconds between two questions to Slurm, whose controller answers those of all users."""
FILE_SYSTEM_PATIENCE = 60.0
"""Seconds after which a network file system shows what a job wrote on another machine."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a command of Slurm's may take."""

FINAL_STATES = (
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
"""The states in which Slurm has finished a job."""

UNKNOWN_STATE = "an unknown state"

log = logging.getLogger(__name__)


@dataclass
class _SlurmJob(ClusterJob):
    """The handle is the job's id with its index in the array, such as 17_3."""

    checkpoint: str = ""
    """The run's newest checkpoint when the job was submitted."""
    over_since: float | None = None
    """The time at which the job was first seen to have ended."""


class SlurmLauncher(ClusterLauncher):
    """A launcher whose attempts are Slurm jobs.

    Attempts that are submitted together become one array. While its jobs are in Slurm's hands,
    others follow as `n_jobs` allows.

    Args:
        partition: None takes the cluster's default.
        time: minutes of a job. A run that needs more goes on in another job.
        signal_delay_s: a run saves its checkpoint so many seconds before the time is up.
        mem: memory of a job, such as 4GB; None takes the cluster's default.
        array_size: the number of jobs in one array at most.
        setup: shell commands before a run.
        sbatch: further options of sbatch.
    """

    def __init__(
        self,
        *,
        partition: str | None = None,
        time: int = 240,
        signal_delay_s: int = 90,
        cpus_per_task: int = 2,
        gpus_per_node: int = 0,
        mem: str | None = None,
        array_size: int = 1000,
        setup: list[str] | None = None,
        sbatch: dict[str, Any] | None = None,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.partition, self.time, self.signal_delay_s = partition, time, signal_delay_s
        self.cpus_per_task, self.gpus_per_node, self.mem = cpus_per_task, gpus_per_node, mem
        self.array_size = array_size
        self.setup_commands: list[str] = plain(setup) or []
        self.sbatch: dict[str, Any] = plain(sbatch) or {}
        self._cancelled: list[str] = []
        self._looked = 0.0
        self._has_submitted = False
        self._complaint = ""

    def check(self) -> None:
        """See Launcher."""
        if shutil.which("sbatch") is None:
            raise UserError(
                "hydra/launcher=slurm: there is no sbatch here, this is no Slurm cluster"
            )
        if importlib.util.find_spec("submitit") is None:
            raise UserError(
                'hydra/launcher=slurm: submitit is not installed; pip install "gan-sweeps[slurm]"'
            )

    def threads_per_run(self, device: str, runs: int) -> int:
        """See Launcher."""
        return max(1, self.cpus_per_task // self.processes)

    @property
    def place(self) -> Place:
        """See ClusterLauncher."""
        return Place(self.cpus_per_task, self.gpus_per_node, "cpus_per_task", "gpus_per_node")

    def connect(self, folder: Path) -> None:
        """See ClusterLauncher."""
        self._folder = folder / ".slurm"
        title = re.sub(r"[^\w.=+-]", "_", folder.name)
        # The name tells the jobs of this sweep from all others.
        digest = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:8]
        self._our_jobs = ["--user", getpass.getuser(), "--name", f"{title}-{digest}"]
        self._executor = self._make_executor(self._our_jobs[-1])
        self._end_jobs_of_dead_parent()

    def cancel(self, job: _SlurmJob) -> None:
        """See ClusterLauncher."""
        self._cancelled.append(job.handle)

    def prune(self, name: str) -> None:
        """See Launcher."""
        if (job := self._jobs.get(name)) and PRUNE is not None:
            number = PRUNE.name.removeprefix("SIG")
            _run_slurm("scancel", f"--signal={number}", "--full", job.handle)

    def kill(self, name: str) -> None:
        """See Launcher."""
        if job := self._jobs.get(name):
            job.is_stopping = True
            _run_slurm("scancel", "--signal=KILL", "--full", job.handle)
            self._cancelled.append(job.handle)

    def wait(self, timeout: float) -> Event | None:
        """See Launcher."""
        if self._cancelled:
            all_of_them = all(job.is_stopping for job in self._jobs.values())
            _run_slurm("scancel", *(self._our_jobs if all_of_them else self._cancelled))
            self._cancelled.clear()
        deadline = time.monotonic() + timeout
        while not self._events and (now := time.monotonic()) < deadline:
            if now - self._looked > SECONDS_BETWEEN_POLLS:
                self._look()
                self._submit_waiting()
                self._looked = time.monotonic()
            time.sleep(max(0.0, min(0.1, deadline - now)))
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See Launcher."""
        self._waiting.clear()
        if self._jobs:
            _run_slurm("scancel", *self._our_jobs)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _submit_waiting(self) -> None:
        room = self.array_size
        if self._jobs and self.n_jobs:
            # The limit of an array does not count the jobs of other arrays.
            room = min(room, self.n_jobs - len(self._jobs))
        attempts = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if not attempts:
            return
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        for attempt in attempts:
            self._report_file(attempt.name).unlink(missing_ok=True)
        one_gpu = self.gpus_per_node > 0
        try:
            # submitit prints here what its exception says again.
            with redirect_stderr(StringIO()):
                submitted = self._executor.map_array(
                    execute_job,
                    [place_config(a.config, self._threads, one_gpu=one_gpu) for a in attempts],
                    [str(attempt.run_dir.resolve()) for attempt in attempts],
                    [attempt.overrides for attempt in attempts],
                    [attempt.choices for attempt in attempts],
                    [str(self._report_file(attempt.name)) for attempt in attempts],
                    [self.processes] * len(attempts),
                )
        except (FailedJobError, FailedSubmissionError) as error:
            refusal = f"Slurm takes no jobs: {sbatch_errors(str(error))}"
            if not self._has_submitted:
                raise UserError(refusal) from None
            # It took some before: a limit is reached, or the controller is busy.
            self._complain(refusal)
            self._waiting.extendleft(reversed(attempts))
            return
        self._has_submitted = True
        for attempt, job in zip(attempts, submitted, strict=True):
            checkpoint = newest_checkpoint(attempt.run_dir)
            follower = RunFollower(attempt)
            self._jobs[attempt.name] = _SlurmJob(
                job.job_id, attempt, follower, checkpoint=checkpoint
            )

    def _look(self) -> None:
        """Note what has happened to the jobs."""
        states = self._states() if self._jobs else {}
        if states is None:
            # A controller that restarts, or has too much to do, will answer later.
            self._complain("Slurm does not answer")
            return
        for job in list(self._jobs.values()):
            state, code = states.get(job.handle, (UNKNOWN_STATE, ""))
            self.note_progress(job, has_begun=state == "RUNNING")
            if state in FINAL_STATES or state == UNKNOWN_STATE:
                self._note_end(job, state, code)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s; asking again every %g s", text, SECONDS_BETWEEN_POLLS)

    def _states(self) -> dict[str, tuple[str, str]] | None:
        """Return the state and exit code of each job; None if Slurm does not answer.

        Jobs that ended a short time ago are included.
        """
        columns = "JobArrayID:|,State:|,exit_code:|"
        command = ["squeue", "--noheader", "--array", "--states=all", "--Format", columns]
        output = _run_slurm(*command, *self._our_jobs)
        if output is None:
            return None
        rows = [line.strip().split("|") for line in output.splitlines() if line.strip()]
        return {row[0]: (row[1], row[2]) for row in rows}

    def _note_end(self, job: _SlurmJob, state: str, code: str) -> None:
        event = self._end_event(job, state, code)
        if event is None:
            return
        del self._jobs[job.attempt.name]
        self._clear_away(job)
        if isinstance(event, Requeued):
            self._waiting.append(job.attempt)
        self._events.append(event)

    def _end_event(self, job: _SlurmJob, state: str, code: str) -> Ended | Requeued | None:
        """Return what the end of a job means; None while its files are not all seen yet."""
        name, run_dir = job.attempt.name, job.attempt.run_dir
        if finished := finished_ending(run_dir):
            return Ended(name, finished)
        if job.is_stopping:
            return Ended(name, Ending(Status.INTERRUPTED))
        report = self._read_report(name)
        status = report.get("status")
        if state == "COMPLETED" and (status is None or status in FINISHED):
            job.over_since = job.over_since or time.monotonic()
            if time.monotonic() - job.over_since < FILE_SYSTEM_PATIENCE:
                return None
        if state == "CANCELLED":
            reason = f"its Slurm job {job.handle} was cancelled by scancel"
            return Ended(name, Ending(Status.REFUSED, reason=reason))
        if state == "PREEMPTED":
            return Requeued(name, f"its Slurm job {job.handle} was preempted")
        if state == "TIMEOUT" or (state == "COMPLETED" and status == Status.INTERRUPTED):
            if newest_checkpoint(run_dir) > job.checkpoint:
                return Requeued(name, f"its Slurm job {job.handle} ran out of time")
            reason = f"its Slurm job {job.handle} ran out of time before it saved a checkpoint"
            return Ended(name, Ending(Status.LOST, reason=reason))
        if status in (Status.RAISED, Status.REFUSED, Status.BUSY):
            return Ended(name, Ending(Status(status), reason=report["reason"]))
        reason = f"its Slurm job {job.handle} ended in {state}{describe_wait_status(code)}"
        return Ended(name, Ending(Status.LOST, reason=reason))

    def _report_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read_report(self, name: str) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads(self._report_file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return report

    def _clear_away(self, job: _SlurmJob) -> None:
        """Keep what a job wrote to its standard error, and remove its files."""
        name = job.attempt.name
        self._report_file(name).unlink(missing_ok=True)
        for path in self._folder.glob(f"{job.handle}_*"):
            if path.suffix == ".err" and (text := path.read_bytes()):
                title = f"{name}, Slurm job {job.handle}:\n".encode()
                with self._log.open("ab") as file:
                    file.write(title + text)
            path.unlink()

    def _end_jobs_of_dead_parent(self) -> None:
        """End jobs that still run because the process that submitted them was killed."""
        list_jobs = ["squeue", "--noheader", "--format=%i", *self._our_jobs]
        left = _run_slurm(*list_jobs)
        if left is None:
            raise UserError("hydra/launcher=slurm: Slurm does not answer, try squeue")
        if left:
            log.warning("ending the Slurm jobs of an earlier process: %s", " ".join(left.split()))
        while left != "":
            _run_slurm("scancel", *self._our_jobs)
            time.sleep(SECONDS_BETWEEN_POLLS)
            left = _run_slurm(*list_jobs)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    def _make_executor(self, name: str) -> Any:
        from submitit import SlurmExecutor

        variables = Slot(self._threads).environment()
        exports = [f"export {key}={value}" for key, value in variables.items()]
        executor = SlurmExecutor(self._folder, python=shlex.quote(sys.executable))
        executor.update_parameters(
            job_name=name,
            partition=self.partition,
            time=self.time,
            signal_delay_s=self.signal_delay_s,
            cpus_per_task=self.cpus_per_task,
            gpus_per_node=self.gpus_per_node or None,
            mem=self.mem,
            array_parallelism=self.n_jobs or self.array_size,
            setup=[*self.setup_commands, *exports],
            # Since Slurm 22.05, srun does not ask sbatch for the number of cores.
            srun_args=[f"--cpus-per-task={self.cpus_per_task}"],
            additional_parameters={"no_requeue": True, **self.sbatch},
        )
        return executor


def execute_job(
    config: dict[str, Any],
    run_dir: str,
    overrides: list[str],
    choices: dict[str, str],
    report: str,
    processes: int = 1,
) -> None:
    """Execute an attempt in a Slurm job, and write a report of its end."""
    has_begun = False

    def note_begin(step: int, total: int, record: dict[str, Any] | None) -> None:
        nonlocal has_begun
        has_begun = True

    def stop(number: int, frame: FrameType | None) -> None:
        # Training has a handler of its own. Slurm and srun both send the signal, so a second one
        # may come when training has ended.
        if not has_begun:
            raise Interrupted(f"{run_dir}: stopped before its first step", 128 + number)

    def pass_on(number: int, frame: FrameType | None) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    # Slurm sends this one before the time is up.
    signal.signal(signal.SIGUSR2, pass_on)
    if PRUNE is not None:
        # Training has a handler of its own. Before and after it, there is nothing to prune.
        signal.signal(PRUNE, signal.SIG_IGN)
    attempt = Attempt(Path(run_dir).name, config, Path(run_dir), overrides, choices)
    ending = execute(attempt, note_begin, patience=LOCK_PATIENCE, processes=processes)
    write_text(Path(report), json.dumps(ending._asdict()))


def describe_wait_status(status: str) -> str:
    """Return a wait status, as Slurm gives it, in words to be added to a sentence."""
    code = os.waitstatus_to_exitcode(int(status or 0))
    # A shell reports a signal as an exit code of 128 and more.
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f", killed by {signal.Signals(number).name}"
    return f", exit code {code}" if code else ""


def sbatch_errors(text: str) -> str:
    """Return what sbatch has said, in one line."""
    lines = [line.partition("error:")[2].strip() for line in text.splitlines() if "error:" in line]
    return "; ".join(lines) or " ".join(text.split())


def _run_slurm(*command: str) -> str | None:
    """Return what a command prints; None if it fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            # Names of other people's jobs may be in any encoding.
            errors="replace",
            timeout=COMMAND_TIMEOUT,
            # Ctrl-C on a terminal goes to the whole group.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        log.debug("%s: %s", " ".join(command), done.stderr.strip())
        return None
    return done.stdout
