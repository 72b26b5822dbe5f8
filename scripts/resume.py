"""Continue an interrupted run or sweep: python scripts/resume.py DIR [device=cpu]

A finished run is left as it is, and its objective printed. Of a sweep, what is not finished is
run as it was planned; what failed, with retry_failed=true.
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from gan.commands.command_line import script
from gan.errors import UserError
from gan.launchers.startup import lasting
from gan.run.directory import read_config
from gan.sweep import SWEEP_FILE


@dataclass
class Options:
    device: str | None = None
    """Continue on another device: auto, cpu, cuda, cuda:N or mps."""
    retry_failed: bool = False
    """Of a sweep: run again what failed."""
    n_jobs: int | None = None
    """Of a sweep: runs at the same time."""


def resume(paths: list[Path], options: Options) -> None:
    if len(paths) != 1:
        raise UserError("usage: python scripts/resume.py DIR [device=cpu] [retry_failed=true]")
    (path,) = paths
    if (path / SWEEP_FILE).exists():
        from gan.sweep import launch

        if command := launch.search_command(path):
            # What comes next depends on the search's settings, which stand there.
            script = str(Path(__file__).with_name("train.py"))
            os.execv(sys.executable, [sys.executable, script, *command])
        launch.resume(
            path,
            retry_failed=options.retry_failed,
            device=options.device,
            n_jobs=options.n_jobs,
        )
        return
    cfg = read_config(path)
    if options.device is not None:
        OmegaConf.update(cfg, "device", options.device)
    with lasting():
        from gan.train import run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run(cfg, path)


if __name__ == "__main__":
    script(resume, Options)
