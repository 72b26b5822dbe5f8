"""Open TensorBoard on runs: python scripts/board.py [DIR] [port=6006]

Shows outputs/ if no directory is given: every step of the sample grids, and new values every few
seconds while runs go on. Only this machine can connect.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError


@dataclass
class Options:
    port: int = 6006
    """0 takes any that is free."""


def board(paths: list[Path], options: Options) -> None:
    if len(paths) > 1:
        raise UserError("usage: python scripts/board.py [DIR] [port=6006]")
    folder = paths[0] if paths else Path("outputs")
    if not 0 <= options.port < 65536:
        raise UserError(f"port={options.port}: must be from 0 to 65535")
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a directory' if folder.exists() else 'does not exist'}")
    if next(folder.rglob("events.out.tfevents.*"), None) is None:
        raise UserError(
            f"{folder}: holds no event files; runs write them with logging.tensorboard=true"
        )
    command = [sys.executable, "-m", "tensorboard.main"]
    # One image in ten would be shown otherwise; 0 stands for all.
    command += [f"--logdir={folder}", "--samples_per_plugin=images=0", "--reload_interval=5"]
    command += ["--host=127.0.0.1", f"--port={options.port}"]
    sys.stdout.flush()
    os.execv(sys.executable, command)


if __name__ == "__main__":
    script(board, Options)
