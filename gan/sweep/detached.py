"""Sweeps that a job of a cluster drives: handed over, followed from here, and taken up again."""

import time
from collections.abc import Sequence
from pathlib import Path

from gan.errors import Interrupted, UserError
from gan.launchers import controller
from gan.launchers.attempt import RunFollower
from gan.launchers.base import Launcher, Started, find_launcher
from gan.launchers.cluster import SECONDS_WITHOUT_ANSWER
from gan.run.attempt import Attempt
from gan.run.directory import in_use
from gan.run.result import FINISHED, Status, objective
from gan.sweep.directory import JOBS_FILE, Sweep, read_sweep
from gan.sweep.report import LiveDisplay, console
from gan.sweep.schedule import JobEnded
from gan.system.invocation import as_seen_here, command_line

SECONDS_BETWEEN_LOOKS = 2.0
"""Seconds between two looks at the files of the runs."""
SECONDS_BETWEEN_QUESTIONS = 15.0
"""Seconds between two questions to the cluster, whether the controller is there."""


def is_detached(launcher: Launcher) -> bool:
    """Return whether this process hands a sweep over instead of driving it."""
    return launcher.detach and not controller.is_controller()


def can_detach(path: Path) -> bool:
    """Return whether the launcher of the sweep in a directory has the key `detach`."""
    sweep = read_sweep(path)
    return sweep is not None and "detach" in sweep.launcher


def hand_over(
    path: Path,
    launcher: Launcher,
    *,
    runs: int,
    device: str,
    retry_failed: bool,
    words: Sequence[str] = (),
) -> None:
    """Let the cluster of a launcher drive the planned sweep in a directory.

    Args:
        runs: the number of runs that the sweep will have.
        device: the device that they are configured for.
        retry_failed: runs that failed before are run again.
        words: further options of `gan resume` for the controller.

    Raises:
        UserError: the cluster takes no such job, or a run would not have the cores or the GPUs that
            it needs.
    """
    launcher.check_place(device)
    words = [*(["retry_failed=true"] if retry_failed else []), *words]
    name = launcher.start_controller(path.resolve(), words)
    controller.save_state(path, name, runs)
    console().print(
        f"{as_seen_here(path)}: {name} drives this sweep from now on; follow it by: "
        f"{command_line('resume', path)}",
        soft_wrap=True,
    )


def living_controller(path: Path) -> str | None:
    """Return the name of the controller that drives the sweep in a directory, if there is one.

    Raises:
        UserError: its cluster does not answer.
    """
    name = controller.read_state(path)
    sweep = read_sweep(path) if name else None
    if name is None or sweep is None or controller.is_controller():
        return None
    launcher = find_launcher(sweep.launcher)
    assert launcher is not None
    return name if launcher.has_controller(path.resolve(), name) else None


def stop(path: Path, name: str) -> None:
    """Let the controller of a sweep end, with a checkpoint of each run.

    Args:
        name: the name of the controller.

    Raises:
        UserError: its cluster does not answer.
    """
    sweep = read_sweep(path)
    assert sweep is not None
    launcher = find_launcher(sweep.launcher)
    assert launcher is not None
    launcher.stop_controller(path.resolve(), name)
    console().print(f"{as_seen_here(path)}: {name} lets the runs save their checkpoints")
    watch = _Watch(path)
    while watch.is_there():
        time.sleep(SECONDS_BETWEEN_LOOKS)


def refuse_second_controller(path: Path) -> None:
    """Refuse to go on with a sweep that a controller drives.

    Raises:
        UserError: says how to follow it.
    """
    if name := living_controller(path):
        raise UserError(
            f"{path}: {name} drives this sweep; follow it by: {command_line('resume', path)}"
        )


def follow(path: Path, name: str) -> int | None:
    """Show what becomes of the runs of a sweep until its controller is gone.

    Args:
        name: the name of the controller.

    Returns:
        The exit code of the controller: 0 if nothing is left to do; None if it vanished.

    Raises:
        Interrupted: Ctrl-C. The sweep goes on.
        UserError: the cluster has not answered for SECONDS_WITHOUT_ANSWER.
    """
    sweep = read_sweep(path)
    assert sweep is not None
    shown = _Shown(sweep)
    console().print(
        f"{as_seen_here(path)}: following {name}; Ctrl-C ends this command and not the sweep",
        soft_wrap=True,
    )
    asked, watch = time.monotonic(), _Watch(path)
    try:
        with shown.display.live():
            while True:
                shown.look()
                now = time.monotonic()
                if now - asked > SECONDS_BETWEEN_QUESTIONS or controller.read_state(path) is None:
                    asked = now
                    if not watch.is_there():
                        break
                time.sleep(SECONDS_BETWEEN_LOOKS)
            shown.look()
    except KeyboardInterrupt:
        raise Interrupted(
            f"{path}: goes on; follow it again by: {command_line('resume', path)}", exit_code=130
        ) from None
    return controller.read_end(path)


class _Watch:
    """Asks a cluster again and again whether the controller of a sweep is there."""

    def __init__(self, path: Path):
        self._path = path
        self._silent_since: float | None = None

    def is_there(self) -> bool:
        """Return whether it is there, or may be, since the cluster does not answer.

        Raises:
            UserError: the cluster has not answered for SECONDS_WITHOUT_ANSWER.
        """
        try:
            is_there = living_controller(self._path) is not None
        except UserError:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now - self._silent_since > SECONDS_WITHOUT_ANSWER:
                raise
            return True
        self._silent_since = None
        return is_there


class _Shown:
    """The runs of a sweep that another process drives, as far as they were shown."""

    def __init__(self, sweep: Sweep):
        self._path, self._sweep = sweep.path, sweep
        self._read_at = (0, 0)
        """The time and the size of the file of jobs when it was last read."""
        statuses = {name: sweep.status(name) for name in sweep.jobs}
        self._over = {name for name, (status, _) in statuses.items() if status in FINISHED}
        self._failed = {name for name, (status, _) in statuses.items() if status is Status.FAILED}
        """Runs that failed, each of which may be tried again."""
        self._followers: dict[str, RunFollower] = {}
        done = [result for status, result in statuses.values() if result and status in FINISHED]
        self.display = LiveDisplay(
            # The jobs of a search are planned one after the other.
            max(len(sweep.jobs), controller.read_runs(self._path) or 0),
            [objective(result) for result in done],
            _objective_name(sweep),
        )

    def look(self) -> None:
        """Show what is new. A search has new runs too."""
        stat = (self._path / JOBS_FILE).stat()
        if self._read_at != (stat.st_mtime_ns, stat.st_size):
            # To read the jobs of a large sweep takes seconds, and those of a grid do not change.
            self._read_at = (stat.st_mtime_ns, stat.st_size)
            self._sweep = read_sweep(self._path) or self._sweep
        sweep = self._sweep
        for name, job in sweep.jobs.items():
            if name in self._over:
                continue
            if name in self._failed:
                if not in_use(sweep.run_dir(name)):
                    continue
                self._failed.remove(name)
                self._followers.pop(name, None)
            if name not in self._followers and in_use(sweep.run_dir(name)):
                attempt = Attempt(name, job.config, sweep.run_dir(name), [], job.choices)
                self._followers[name] = RunFollower(attempt)
                self.display.show(Started(name))
            if follower := self._followers.get(name):
                for progress in follower.new_progress():
                    self.display.show(progress)
            status, result = sweep.status(name)
            if result and status in (*FINISHED, Status.FAILED):
                (self._failed if status is Status.FAILED else self._over).add(name)
                value = objective(result) if status in FINISHED else None
                self.display.show(JobEnded(job, status, value, result.get("error")))


def _objective_name(sweep: Sweep) -> str | None:
    """Return the metric that a sweep improves, if it is known before the first job is planned."""
    if sweep.search:
        return str(sweep.search["objectives"][0])
    names = [job.config["metrics"]["objective"] for job in sweep.jobs.values()]
    return names[0] if names else None
