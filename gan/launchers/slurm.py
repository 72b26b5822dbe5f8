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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from gan.errors import Interrupted, NoAnswer, UserError
from gan.launchers.attempt import LOCK_PATIENCE, execute, place_config
from gan.launchers.base import Ended, Event, Requeued, plain
from gan.launchers.cluster import (
    SECONDS_WITHOUT_ANSWER,
    ClusterJob,
    ClusterLauncher,
    finished_ending,
)
from gan.launchers.cohort_job import execute_cohort
from gan.launchers.controller import LOG_FILE, command
from gan.launchers.followers import Place
from gan.launchers.slots import Slot
from gan.run.attempt import Attempt, Ending
from gan.run.result import FINISHED, Status
from gan.run.signals import PRUNE
from gan.system.files import write_text
from gan.system.invocation import command_line

SECONDS_BETWEEN_POLLS = 3.0
"""Seconds between two questions to Slurm, whose controller answers those of all users."""
COMMAND_TIMEOUT = 60.0
"""Seconds that a command of Slurm's may take."""
SILENCE = re.compile(
    "unable to contact|connect failure|connection (refused|timed out)|socket timed out|"
    "temporarily unable|communication connection|zero bytes",
    re.IGNORECASE,
)
"""Errors of sbatch that say that Slurm's controller does not answer."""

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
SECONDS_TO_STOP = 60
"""Seconds before the end of its time when a controller lets its runs save their checkpoints."""
FINISHED_JOB = ("COMPLETED", "")
SECONDS_TO_END = 20.0
"""Seconds that the jobs of cohorts without runs have to end, at the end of a sweep."""

log = logging.getLogger(__name__)


class SlurmLauncher(ClusterLauncher):
    """A launcher whose attempts are Slurm jobs.

    Jobs that are submitted together are one array. While its jobs are in Slurm's hands, others
    follow as `n_jobs` allows.

    Args:
        partition: None takes the cluster's default.
        time: minutes of a job. A run that needs more goes on in another job.
        signal_delay_s: a run saves its checkpoint so many seconds before the time is up.
        mem: memory of a job, such as 4GB; None takes the cluster's default.
        array_size: the number of jobs in one array at most.
        setup: shell commands before a run.
        sbatch: further options of sbatch.
        controller: options of sbatch for the job that drives a detached sweep.
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
        controller: dict[str, Any] | None = None,
        **settings: Any,
    ):
        super().__init__(**settings)
        self.controller: dict[str, Any] = plain(controller) or {}
        self.partition, self.time, self.signal_delay_s = partition, time, signal_delay_s
        self.cpus_per_task, self.gpus_per_node, self.mem = cpus_per_task, gpus_per_node, mem
        self.array_size = array_size
        self.setup_commands: list[str] = plain(setup) or []
        self.sbatch: dict[str, Any] = plain(sbatch) or {}
        self.takes_gpu = gpus_per_node > 0
        self._cancelled: list[str] = []
        """Jobs that Slurm is to be asked to cancel."""
        self._cancels_at = 0.0
        """The earliest time to ask it."""
        self._looked = 0.0
        self._has_submitted = False
        self._may_have_arrived = False
        """Jobs may have arrived although sbatch did not say so."""
        self._complaint = ""
        self._silent_since: float | None = None

    def check(self) -> None:
        """See Launcher."""
        super().check()
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

    def start_controller(self, folder: Path, words: Sequence[str]) -> str:
        """See Launcher."""
        options = {
            "job-name": f"{_jobs_name(folder)}-controller",
            "partition": self.partition,
            "cpus-per-task": 1,
            "output": folder / LOG_FILE,
            "open-mode": "append",
            # A node that fails, and the end of its time, do not end the sweep.
            "requeue": True,
            "signal": f"B:USR1@{max(self.signal_delay_s, SECONDS_TO_STOP)}",
            **{key.replace("_", "-"): value for key, value in self.controller.items()},
        }
        texts = [
            f"--{key}" if value is True else f"--{key}={value}"
            for key, value in options.items()
            if value is not None and value is not False
        ]
        # The shell is replaced, so that signals arrive.
        script = "\n".join([*self.setup_commands, f"exec {shlex.join(command(folder, words))}"])
        try:
            done = subprocess.run(
                ["sbatch", "--parsable", *texts, f"--wrap={script}"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=COMMAND_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise UserError("hydra/launcher=slurm: Slurm does not answer, try squeue") from None
        if done.returncode:
            raise UserError(f"Slurm takes no controller: {sbatch_errors(done.stderr)}")
        return f"Slurm job {done.stdout.strip().partition(';')[0]}"

    def stop_controller(self, folder: Path, name: str) -> None:
        """See Launcher."""
        number = name.rpartition(" ")[2]
        # A job that waits gets no signal.
        commands = (["--state=PENDING", number], ["--signal=TERM", "--batch", number])
        answers = [_run_slurm("scancel", *arguments) for arguments in commands]
        if None in answers and self.has_controller(folder, name):
            raise UserError(f"hydra/launcher=slurm: {name} cannot be stopped, try scancel")

    def has_controller(self, folder: Path, name: str) -> bool:
        """See Launcher."""
        own = ["--user", getpass.getuser(), "--name", f"{_jobs_name(folder)}-controller"]
        if (there := _run_slurm("squeue", "--noheader", "--format=%i", *own)) is None:
            raise UserError("hydra/launcher=slurm: Slurm does not answer, try squeue")
        return name.rpartition(" ")[2] in there.split()

    def connect(self, folder: Path) -> None:
        """See ClusterLauncher."""
        self._folder = folder / ".slurm"
        self._our_jobs = ["--user", getpass.getuser(), "--name", _jobs_name(folder)]
        self._executor = self._make_executor(self._our_jobs[-1])
        self._end_jobs_of_dead_parent()

    def cancel(self, job: ClusterJob) -> None:
        """See ClusterLauncher."""
        self._cancelled.append(job.handle)

    def prune_run(self, job: ClusterJob, name: str) -> None:
        """See ClusterLauncher."""
        if PRUNE is not None:
            # With --full it would also reach the shell of the job, which it kills.
            number = PRUNE.name.removeprefix("SIG")
            _run_slurm("scancel", f"--signal={number}", job.handle)

    def kill_job(self, job: ClusterJob) -> None:
        """See ClusterLauncher."""
        _run_slurm("scancel", "--signal=KILL", "--full", job.handle)
        self._cancelled.append(job.handle)

    def wait(self, timeout: float) -> Event | None:
        """See Launcher.

        Raises:
            UserError: Slurm takes no jobs of this sweep.
            NoAnswer: it has not answered for SECONDS_WITHOUT_ANSWER.
        """
        if self._cancelled and time.monotonic() >= self._cancels_at:
            all_of_them = all(job.is_stopping for job in self._jobs.values())
            jobs = self._our_jobs if all_of_them else self._cancelled
            is_heard = _run_slurm("scancel", *jobs) is not None
            # A request that Slurm did not hear is made again, for the jobs that are still there.
            left = [] if is_heard else [job for job in self._cancelled if job in self._jobs]
            self._cancelled = left
            self._cancels_at = 0.0 if is_heard else time.monotonic() + SECONDS_BETWEEN_POLLS
        deadline = time.monotonic() + timeout
        while not self._events and (now := time.monotonic()) < deadline:
            if now - self._looked > SECONDS_BETWEEN_POLLS:
                self._look()
                if self._ended_strays():
                    self.submit_waiting(self._room())
                self._looked = time.monotonic()
            time.sleep(max(0.0, min(0.1, deadline - now)))
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """See Launcher."""
        self._queue.clear()
        if self._jobs or self._may_have_arrived:
            _run_slurm("scancel", *self._our_jobs)
        if any(job.members for job in self._jobs.values()):
            return
        # Jobs of cohorts without runs may still write something as they end.
        deadline = time.monotonic() + SECONDS_TO_END
        while self._jobs and time.monotonic() < deadline:
            states = self._states() or {}
            if all(states.get(handle, FINISHED_JOB)[0] in FINAL_STATES for handle in self._jobs):
                break
            time.sleep(0.3)
        shutil.rmtree(self._folder, ignore_errors=True)

    def hand_over(self, jobs: Sequence[ClusterJob]) -> bool:
        """See ClusterLauncher."""
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        # What an sbatch that is killed has submitted has no id here.
        self._may_have_arrived = True
        try:
            # submitit prints here what its exception says again.
            with redirect_stderr(StringIO()), _limited_sbatch():
                submitted = self._submit(jobs)
        except (FailedJobError, FailedSubmissionError) as error:
            refusal = sbatch_errors(str(error))
            is_silent = not refusal or SILENCE.search(refusal)
            if is_silent and not self._jobs:
                self._note_silence()
            elif not is_silent and not self._has_submitted:
                raise UserError(f"Slurm takes no jobs: {refusal}") from None
            else:
                # It took some before: a limit is reached, or the controller is busy.
                self._complain(f"Slurm takes no jobs: {refusal or 'sbatch does not answer'}")
            return False
        self._has_submitted, self._may_have_arrived, self._silent_since = True, False, None
        for job, accepted in zip(jobs, submitted, strict=True):
            job.handle = accepted.job_id
        return True

    def _submit(self, jobs: Sequence[ClusterJob]) -> list[Any]:
        """Submit an array, and return the jobs as submitit knows them."""
        if self.vectorized:
            paths = [str(job.mailbox.path) for job in jobs if job.mailbox]
            cohorts: list[Any] = self._executor.map_array(execute_cohort, paths)
            return cohorts
        attempts = [member.attempt for job in jobs for member in job.members.values()]
        for attempt in attempts:
            self._report_file(attempt.name).unlink(missing_ok=True)
        submitted: list[Any] = self._executor.map_array(
            execute_job,
            [place_config(a.config, self._threads, one_gpu=self.takes_gpu) for a in attempts],
            [str(attempt.run_dir.resolve()) for attempt in attempts],
            [attempt.overrides for attempt in attempts],
            [attempt.choices for attempt in attempts],
            [str(self._report_file(attempt.name)) for attempt in attempts],
            [self.processes] * len(attempts),
        )
        return submitted

    def _room(self) -> int:
        """Return the number of jobs that may be submitted now."""
        if self._jobs and self.n_jobs:
            # The limit of an array does not count the jobs of other arrays.
            return min(self.array_size, self.n_jobs - len(self._jobs))
        return self.array_size

    def _ended_strays(self) -> bool:
        """End jobs that arrived although sbatch did not say so; return whether there are none left.

        Such a job waits for a file that we write once we know its id, so it has begun no run.
        """
        if not self._may_have_arrived:
            return True
        states = self._states()
        if states is None:
            self._note_silence()
            return False
        strays = [
            handle
            for handle, (state, _) in states.items()
            if state not in FINAL_STATES and handle not in self._jobs
        ]
        if strays:
            _run_slurm("scancel", *strays)
        self._may_have_arrived = bool(strays)
        return not strays

    def _look(self) -> None:
        """Note what has happened to the jobs."""
        states = self._states() if self._jobs else {}
        if states is None:
            # A controller that restarts, or has too much to do, will answer later.
            self._note_silence()
            return
        if self._jobs:
            self._silent_since = None
        for job in list(self._jobs.values()):
            state, code = states.get(job.handle, (UNKNOWN_STATE, ""))
            if job.mailbox:
                self.read_mailbox(job)
            else:
                self.note_progress(job, has_begun=state == "RUNNING")
            if state in FINAL_STATES or state == UNKNOWN_STATE:
                self._note_end(job, state, code)

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("%s; asking again every %g s", text, SECONDS_BETWEEN_POLLS)

    def _note_silence(self) -> None:
        """Tell it once if Slurm does not answer.

        Raises:
            NoAnswer: it has not answered for SECONDS_WITHOUT_ANSWER.
        """
        now, minutes = time.monotonic(), SECONDS_WITHOUT_ANSWER / 60
        if self._silent_since is None:
            self._silent_since = now
            log.warning("Slurm does not answer; waiting for it for up to %g minutes", minutes)
        if now - self._silent_since > SECONDS_WITHOUT_ANSWER:
            raise NoAnswer(
                f"Slurm has not answered for {minutes:g} minutes, and jobs that it has run on; "
                f"once it answers: {command_line('resume', self._folder.parent)}"
            )

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

    def _note_end(self, job: ClusterJob, state: str, code: str) -> None:
        if job.mailbox:
            if not self._end_cohort(job, state, code):
                return
        else:
            (name,) = job.members
            event = self._end_event(job, state, code)
            if event is None:
                return
            self.release(job, name, event)
            self._report_file(name).unlink(missing_ok=True)
            self._clear_away(job, name)
        del self._jobs[job.handle]

    def _end_event(self, job: ClusterJob, state: str, code: str) -> Ended | Requeued | None:
        """Return what the end of a job means; None while its files are not all seen yet."""
        ((name, member),) = job.members.items()
        if finished := finished_ending(member.attempt.run_dir):
            return Ended(name, finished)
        if member.is_stopping:
            return Ended(name, Ending(Status.INTERRUPTED))
        report = self._read_report(name)
        status = report.get("status")
        is_incomplete = state == "COMPLETED" and (status is None or status in FINISHED)
        if is_incomplete and job.waits_for_files():
            return None
        if state == "CANCELLED":
            reason = f"its Slurm job {job.handle} was cancelled by scancel"
            return Ended(name, Ending(Status.REFUSED, reason=reason))
        if state == "PREEMPTED":
            return Requeued(name, f"its Slurm job {job.handle} was preempted")
        if state == "TIMEOUT" or (state == "COMPLETED" and status == Status.INTERRUPTED):
            if member.has_new_checkpoint:
                return Requeued(name, f"its Slurm job {job.handle} ran out of time")
            reason = f"its Slurm job {job.handle} ran out of time before it saved a checkpoint"
            return Ended(name, Ending(Status.LOST, reason=reason))
        if status in (Status.RAISED, Status.REFUSED, Status.BUSY):
            return Ended(name, Ending(Status(status), reason=report["reason"]))
        reason = f"its Slurm job {job.handle} ended in {state}{describe_wait_status(code)}"
        return Ended(name, Ending(Status.LOST, reason=reason))

    def _end_cohort(self, job: ClusterJob, state: str, code: str) -> bool:
        """Decide what becomes of a cohort whose job is over.

        Returns:
            False while its files are not all seen yet.
        """
        assert job.mailbox
        # A job that ended by itself has reported everything, and files take a while to be seen.
        late = not job.has_said_goodbye or any(
            member.ending and member.ending.status in FINISHED for member in job.members.values()
        )
        if state == "COMPLETED" and job.members and late and job.waits_for_files():
            return False
        its_job = f"its Slurm job {job.handle}"
        if job.killed_for:
            self.end_killed_cohort(job, f"{its_job} was killed")
        elif state == "CANCELLED":
            self.end_cancelled_cohort(job, f"{its_job} was cancelled by scancel")
        elif state == "PREEMPTED":
            self.end_cohort(job, f"{its_job} was preempted", needs_checkpoint=False)
        elif state == "TIMEOUT" or (state == "COMPLETED" and job.has_said_goodbye):
            self.end_cohort(job, f"{its_job} ran out of time", needs_checkpoint=True)
        else:
            cause = f"{its_job} ended in {state}{describe_wait_status(code)}"
            self.end_killed_cohort(job, cause)
        self._clear_away(job, f"the runs of {job.mailbox.path.name}")
        job.mailbox.remove()
        return True

    def _report_file(self, name: str) -> Path:
        return self._folder / f"{name}.json"

    def _read_report(self, name: str) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads(self._report_file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return report

    def _clear_away(self, job: ClusterJob, name: str) -> None:
        """Keep what a job wrote to its standard error, and remove its files."""
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
            if left is None:
                self._note_silence()
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


@contextmanager
def _limited_sbatch() -> Iterator[None]:
    """Let submitit end an sbatch that does not answer, in the block."""
    import submitit

    executor_class: Any = submitit.SlurmExecutor

    def command(executor: Any, path: Path) -> list[str]:
        return ["timeout", "--kill-after=5", f"{COMMAND_TIMEOUT:g}", "sbatch", str(path)]

    # submitit copies its executor for an array, so this cannot be a method of a class of ours.
    original = executor_class._make_submission_command
    executor_class._make_submission_command = command
    try:
        yield
    finally:
        executor_class._make_submission_command = original


def describe_wait_status(status: str) -> str:
    """Return a wait status, as Slurm gives it, in words to be added to a sentence."""
    code = os.waitstatus_to_exitcode(int(status or 0))
    # A shell reports a signal as an exit code of 128 and more.
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        return f", killed by {signal.Signals(number).name}"
    return f", exit code {code}" if code else ""


def _jobs_name(folder: Path) -> str:
    """Return the name of the Slurm jobs of a sweep, which tells them from all others."""
    title = re.sub(r"[^\w.=+-]", "_", folder.name)
    digest = hashlib.sha256(os.fsencode(folder / ".slurm")).hexdigest()[:8]
    return f"{title}-{digest}"


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
