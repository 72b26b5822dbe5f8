"""A follower takes part in the training of rank 0: `python -m gan.distributed.follow`.

It reads no command line, writes no file and prints nothing but the reason why it fails.
"""

import io
import logging
import os
import signal
import sys
import warnings
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from gan.build import Parts, build, build_schedules, find_device
from gan.config.checks import as_config, checked
from gan.data import Batches
from gan.distributed.processes import (
    Launch,
    Processes,
    TrainingEnded,
    join,
    together,
    torchrun_launch,
)
from gan.distributed.shared import Plan, SharedTraining, take_part_in_rehearsal
from gan.errors import ProcessLost, UserError
from gan.run.rounding import rounding_as
from gan.run.signals import PRUNE, deferred_stop
from gan.run.state import State, from_checkpoint, initial_state
from gan.schedules import Schedule
from gan.system.startup import end_with_parent
from gan.train import train_one_step


class Followed(NamedTuple):
    """The part of a run that its steps need."""

    parts: Parts
    state: State
    batches: Batches
    schedules: dict[str, Schedule]


def main() -> None:
    """Follow rank 0 until it lets this process end."""
    end_with_parent()
    launch = torchrun_launch()
    assert launch
    prepare()
    code = 0
    try:
        follow(launch)
    except (UserError, ProcessLost) as error:
        print(error, file=sys.stderr, flush=True)
        code = error.exit_code
    # Nothing is left to be written, and a GPU that waits for a dead process would not let go.
    os._exit(code)


def prepare() -> None:
    """Leave the console to rank 0, and the signals that are only for it."""
    # It stays open to the end.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    logging.basicConfig(handlers=[logging.NullHandler()])
    warnings.simplefilter("ignore")
    # Before training, a stop signal ends this process; Python would first wait for rank 0.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (PRUNE, getattr(signal, "SIGUSR2", None)):
        if number is not None:
            signal.signal(number, signal.SIG_IGN)


def follow(launch: Launch) -> None:
    """Build and train what rank 0 says until it says that there is nothing left to do."""
    processes = join(launch)
    parts: Parts | None = None
    processes.check_in()
    with together(processes):
        while True:
            kind, content = processes.receive()
            if kind == "end":
                return
            cfg = checked(as_config(content[0]))
            if kind == "build":
                # First, so that rank 0 notices if this process cannot build its parts.
                processes.connect(find_device(cfg.device))
                parts = build(cfg)
                take_part_in_rehearsal(processes, content[1], cfg, parts)
            else:
                assert parts
                train(processes, cfg, parts, *content[1:])
                # Rank 0 has the last word from now on.
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)


def train(
    processes: Processes, cfg: DictConfig, parts: Parts, plan: Plan, total_steps: int, size: int
) -> None:
    """Take the steps of a run from the state that rank 0 sends, until it makes no further one."""
    content = processes.broadcast(torch.empty(size, dtype=torch.uint8))
    saved = torch.load(io.BytesIO(content.numpy().tobytes()), map_location="cpu", weights_only=True)
    state = initial_state(parts, cfg.seed)
    from_checkpoint(parts, state, saved)
    followed = Followed(
        parts,
        state,
        parts.data.batches(cfg.trainer.batch_size, cfg.seed),
        build_schedules(cfg, total_steps),
    )
    with rounding_as(cfg), deferred_stop() as stop:
        training = SharedTraining(processes, followed, plan, stop, cfg.trainer.checkpoint_every)
        try:
            while state.step < total_steps and training.signal is None:
                train_one_step(followed, training.step)
        except TrainingEnded:
            return
        training.end()


if __name__ == "__main__":
    main()
