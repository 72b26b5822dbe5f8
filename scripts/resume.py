"""Continue an interrupted run: python scripts/resume.py RUN_DIR [device=cpu]

A finished run is left as it is, and its objective printed.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf

from gan.cli import script
from gan.errors import UserError
from gan.run_dir import read_config


@dataclass
class Options:
    device: str | None = None
    """Continue on another device: auto, cpu, cuda, cuda:N or mps."""


def resume(paths: list[Path], options: Options) -> None:
    if len(paths) != 1:
        raise UserError("usage: python scripts/resume.py RUN_DIR [device=cpu]")
    (run_dir,) = paths
    cfg = read_config(run_dir)
    if options.device is not None:
        OmegaConf.update(cfg, "device", options.device)
    from gan.train import run

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    run(cfg, run_dir)


if __name__ == "__main__":
    script(resume, Options)
