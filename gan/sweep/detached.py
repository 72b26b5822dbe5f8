"""Sweeps that a job of a cluster drives: handed over, followed from here, and taken up again."""

import time
from pathlib import Path

from gan.errors import Interrupted, UserError
from gan.invocation import as_seen_here, command_line
from gan.launchers import controller
from gan.launchers.attempt import RunFollower
from gan.launchers.base import Launcher, Started, find_launcher
from gan.run.attempt import Attempt
from gan.run.directory import in_use
from gan.run.result import FINISHED, Status, objective
from gan.sweep.directory import JOBS_FILE, Sweep, read_sweep
from gan.sweep.report import LiveDisplay, console
from gan.sweep.schedule import JobEnded

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


def hand_over(path: Path, launcher: Launcher, *, retry_failed: bool) -> None:
    """Let the cluster of a launcher drive the planned sweep in a directory.

    Args:
        retry_failed: runs that failed before are run again.

    Raises:
        UserError: the cluster takes no such job.
    """
    words = ["retry_failed=true"] if retry_failed else []
    name = launcher.start_controller(path.resolve(), words)
    controller.save_state(path, name)
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
    while living_controller(path):
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


def follow(path: Path, name: str) -> None:
    """Show what becomes of the runs of a sweep until its controller is gone.

    Args:
        name: the name of the controller.

    Raises:
        Interrupted: Ctrl-C. The sweep goes on.
    """
    sweep = read_sweep(path)
    assert sweep is not None
    shown = _Shown(sweep)
    console().print(
        f"{as_seen_here(path)}: following {name}; Ctrl-C ends this command and not the sweep",
        soft_wrap=True,
    )
    asked = time.monotonic()
    try:
        with shown.display.live():
            while True:
                shown.look()
                now = time.monotonic()
                if now - asked > SECONDS_BETWEEN_QUESTIONS or controller.read_state(path) is None:
                    asked = now
                    if living_controller(path) is None:
                        break
                time.sleep(SECONDS_BETWEEN_LOOKS)
            shown.look()
    except KeyboardInterrupt:
        raise Interrupted(
            f"{path}: goes on; follow it again by: {command_line('resume', path)}", exit_code=130
        ) from None


class _Shown:
    """The runs of a sweep that another process drives, as far as they were shown."""

    def __init__(self, sweep: Sweep):
        self._path, self._sweep = sweep.path, sweep
        self._read_at = (0, 0)
        """The time and the size of the file of jobs when it was last read."""
        configs = [job.config for job in sweep.jobs.values()]
        done = [
            (name, result)
            for name in sweep.jobs
            for status, result in [sweep.status(name)]
            if result and status in FINISHED
        ]
        self._over = {name for name, _ in done}
        self._followers: dict[str, RunFollower] = {}
        self.display = LiveDisplay(
            len(sweep.jobs),
            [objective(result) for _, result in done],
            configs[0]["metrics"]["objective"] if configs else None,
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
            if name not in self._followers and in_use(sweep.run_dir(name)):
                attempt = Attempt(name, job.config, sweep.run_dir(name), [], job.choices)
                self._followers[name] = RunFollower(attempt)
                self.display.show(Started(name))
            if follower := self._followers.get(name):
                for progress in follower.new_progress():
                    self.display.show(progress)
            status, result = sweep.status(name)
            if result and status in (*FINISHED, Status.FAILED):
                self._over.add(name)
                value = objective(result) if status in FINISHED else None
                self.display.show(JobEnded(job, status, value, result.get("error")))
