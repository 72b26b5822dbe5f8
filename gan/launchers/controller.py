"""The process on a cluster that drives a detached sweep: `python -m gan.launchers.controller DIR`.

It runs `gan resume DIR`, runs it again if it is killed, and passes stop signals on. Further words
are options of `gan resume`.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from gan.system.files import write_text
from gan.system.invocation import module_command

STATE_FILE = ".controller"
"""The file in a sweep's directory that names the controller, as long as there is one."""
LOG_FILE = "controller.log"
"""The file in a sweep's directory for what the controller prints."""
IS_CONTROLLER = "GAN_SWEEPS_CONTROLLER"
"""The environment variable by which `gan resume` knows that it drives the sweep."""
IS_REPEATED = "GAN_SWEEPS_CONTROLLER_REPEATED"
"""The environment variable that is 1 for a controller that its cluster has begun again."""
RESTARTS = 3
"""The number of times that a killed `gan resume` is started again."""


def command(folder: Path, words: Sequence[str]) -> list[str]:
    """Return the command line of the controller of a sweep."""
    return module_command("gan.launchers.controller", str(folder), *words)


def is_controller() -> bool:
    """Return whether this process was started by the controller of a sweep."""
    return IS_CONTROLLER in os.environ


def save_state(folder: Path, name: str, runs: int | None = None) -> None:
    """Note in a sweep's directory who drives it.

    Args:
        name: a name in words, such as "Slurm job 17".
        runs: the number of runs that the sweep will have, if it is known.
    """
    write_text(folder / STATE_FILE, json.dumps({"name": name, "runs": runs}) + "\n")


def read_state(folder: Path) -> str | None:
    """Return the name of the controller of the sweep in a directory, if it was given to one.

    A controller that has said how it ended drives nothing.
    """
    state = _read(folder)
    return str(state["name"]) if "name" in state and "exit_code" not in state else None


def read_runs(folder: Path) -> int | None:
    """Return the number of runs that a controller's sweep will have, if it is known."""
    runs = _read(folder).get("runs")
    return runs if isinstance(runs, int) else None


def note_end(folder: Path, exit_code: int) -> None:
    """Note in a sweep's directory how its controller ended, so that it drives it no longer."""
    write_text(folder / STATE_FILE, json.dumps(_read(folder) | {"exit_code": exit_code}) + "\n")


def read_end(folder: Path) -> int | None:
    """Return the exit code of the controller; None if it is there, or vanished without one."""
    code = _read(folder).get("exit_code")
    return code if isinstance(code, int) else None


def forget(folder: Path) -> None:
    """Note in a sweep's directory that nobody drives it."""
    (folder / STATE_FILE).unlink(missing_ok=True)


def _read(folder: Path) -> dict[str, Any]:
    """Return the content of the state file; nothing if it is not there or damaged."""
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


class Controller:
    """Runs `gan resume` in a process of its own until the sweep has ended or is stopped."""

    def __init__(self, folder: Path, words: Sequence[str], *, is_repeated: bool = False):
        self._folder, self._words = folder, list(words)
        if is_repeated:
            self._forget_retry()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def run(self) -> int:
        """Drive the sweep, and return the exit code of `gan resume`."""
        code = 0
        for _ in range(1 + RESTARTS):
            self._process = subprocess.Popen(
                module_command("gan", "resume", str(self._folder), *self._words),
                env=_environment(),
            )
            if self._is_stopped:
                self.stop()
            code = self._process.wait()
            if code != -signal.SIGKILL or self._is_stopped:
                break
            self._forget_retry()
        return code

    def _forget_retry(self) -> None:
        """Do not try failed runs again, since an earlier `gan resume` has done it."""
        self._words = [word for word in self._words if not word.startswith("retry_failed=")]

    def stop(self) -> None:
        """Let all runs save a checkpoint and end."""
        self._is_stopped = True
        if self._process:
            self._process.send_signal(signal.SIGTERM)


def _environment() -> dict[str, str]:
    """Return the environment of a command outside of the controller's own Slurm job."""
    own = ("SLURM_", "SBATCH_", "SRUN_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "SLURM_CONF" or not name.startswith(own)
    }
    return kept | {IS_CONTROLLER: "1"}


def main() -> None:
    """Drive the sweep of the command line, and end with the exit code of `gan resume`."""
    folder = Path(sys.argv[1])
    # Slurm counts how often it has begun a job again, and our actor says it of Ray.
    restarts = os.environ.get("SLURM_RESTART_COUNT", os.environ.get(IS_REPEATED, "0"))
    controller = Controller(folder, sys.argv[2:], is_repeated=restarts != "0")
    received: set[int] = set()

    def stop(number: int, frame: FrameType | None) -> None:
        received.add(number)
        controller.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, stop)
    code = controller.run()
    code = code if code >= 0 else 128 - code
    # Slurm announces the end of its job's time by another signal than a cancellation.
    if received == {signal.SIGUSR1}:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    else:
        note_end(folder, code)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
