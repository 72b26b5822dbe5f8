"""Open TensorBoard on runs: gan board [DIR] [port=6006]

Shows outputs/ if no directory is given: every step of the sample grids, and new values every few
seconds while runs go on. Only this machine can connect. port=0 takes any free port.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import run_command
from gan.errors import UserError
from gan.invocation import command_line

MOST_GRIDS = 10_000
"""The number of sample grids of a run that TensorBoard shows."""


@dataclass
class Options:
    """Options of `gan board`."""

    port: int = 6006


def main() -> None:
    """Run the command line."""
    run_command(board, Options)


def board(paths: list[Path], options: Options) -> None:
    """Replace this process with TensorBoard.

    Raises:
        UserError: there is nothing to show, or the port is out of range.
    """
    if len(paths) > 1:
        raise UserError(f"usage: {command_line('board')} [DIR] [port=6006]")
    folder = paths[0] if paths else Path("outputs")
    if not 0 <= options.port < 65536:
        raise UserError(f"port={options.port}: must be from 0 to 65535")
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a directory' if folder.exists() else 'does not exist'}")
    if next(folder.rglob("events.out.tfevents.*"), None) is None:
        raise UserError(
            f"{folder}: holds no event files; runs write them with logging.tensorboard=true"
        )
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}"]
    # TensorBoard would show ten sample grids of a run. With a limit of 0 it shows none.
    command += [f"--samples_per_plugin=images={MOST_GRIDS}", "--reload_interval=5"]
    command += ["--host=127.0.0.1", f"--port={options.port}"]
    sys.stdout.flush()
    os.execv(sys.executable, command)
