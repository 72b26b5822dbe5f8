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

from gan.files import write_text

STATE_FILE = ".controller"
"""The file in a sweep's directory that names the controller, as long as there is one."""
LOG_FILE = "controller.log"
"""The file in a sweep's directory for what the controller prints."""
IS_CONTROLLER = "GAN_SWEEPS_CONTROLLER"
"""The environment variable by which `gan resume` knows that it drives the sweep."""
RESTARTS = 3
"""The number of times that a killed `gan resume` is started again."""


def command(folder: Path, words: Sequence[str]) -> list[str]:
    """Return the command line of the controller of a sweep."""
    return [sys.executable, "-m", "gan.launchers.controller", str(folder), *words]


def is_controller() -> bool:
    """Return whether this process was started by the controller of a sweep."""
    return IS_CONTROLLER in os.environ


def save_state(folder: Path, name: str) -> None:
    """Note in a sweep's directory who drives it.

    Args:
        name: a name in words, such as "Slurm job 17".
    """
    write_text(folder / STATE_FILE, json.dumps({"name": name}) + "\n")


def read_state(folder: Path) -> str | None:
    """Return the name of the controller of the sweep in a directory, if it was given to one."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(state["name"])


def forget(folder: Path) -> None:
    """Note in a sweep's directory that nobody drives it."""
    (folder / STATE_FILE).unlink(missing_ok=True)


class Controller:
    """Runs `gan resume` in a process of its own until the sweep has ended or is stopped."""

    def __init__(self, folder: Path, words: Sequence[str]):
        self._folder, self._words = folder, list(words)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self.is_out_of_time = False

    def run(self) -> int:
        """Drive the sweep, and return the exit code of `gan resume`."""
        code = 0
        words = self._words
        for _ in range(1 + RESTARTS):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gan", "resume", str(self._folder), *words],
                env=_environment(),
            )
            if self._is_stopped:
                self.stop()
            code = self._process.wait()
            if code != -signal.SIGKILL or self._is_stopped:
                break
            # Runs that failed were tried again already.
            words = [word for word in words if not word.startswith("retry_failed=")]
        return code

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
    controller = Controller(folder, sys.argv[2:])

    def stop(number: int, frame: FrameType | None) -> None:
        # Slurm announces the end of its job's time by another signal than a cancellation.
        controller.is_out_of_time |= number == signal.SIGUSR1
        controller.stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, stop)
    code = controller.run()
    if controller.is_out_of_time:
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    else:
        forget(folder)
    raise SystemExit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
