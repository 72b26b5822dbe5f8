"""Losses that do something wrong as long as the file named by the variable FAULTY exists."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from gan.losses import Loss, non_saturating


def raises(*, label_smoothing: float) -> Loss:
    """Raise an error with a message of two lines."""
    if _is_faulty():
        raise RuntimeError("no such loss\nand more of it")
    return non_saturating(label_smoothing=label_smoothing)


def is_killed(*, label_smoothing: float) -> Loss:
    """Kill this process."""
    if _is_faulty():
        os.kill(os.getpid(), signal.SIGKILL)
    return non_saturating(label_smoothing=label_smoothing)


def hangs(*, label_smoothing: float) -> Loss:
    """Wait, and do not answer to signals."""
    while _is_faulty():
        time.sleep(0.1)
    return non_saturating(label_smoothing=label_smoothing)


def diverges(*, label_smoothing: float) -> Loss:
    """Return a loss that is not a number, with or without the file."""

    def not_a_number(real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() * torch.nan

    return non_saturating(label_smoothing=label_smoothing)._replace(generator=not_a_number)


def slow(*, label_smoothing: float) -> Loss:
    """Return a right loss whose steps take so long that a run can be disturbed in the middle."""
    right = non_saturating(label_smoothing=label_smoothing)

    def late(real: Tensor, fake: Tensor) -> Tensor:
        time.sleep(0.03)
        return right.generator(real, fake)

    return right._replace(generator=late)


def _is_faulty() -> bool:
    return Path(os.environ["FAULTY"]).exists()
