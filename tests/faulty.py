"""Losses that go wrong as long as the file named by FAULTY is there."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from gan.losses import Loss, non_saturating


def raises(*, label_smoothing: float) -> Loss:
    if _wrong():
        raise RuntimeError("no such loss\nand more of it")
    return non_saturating(label_smoothing=label_smoothing)


def is_killed(*, label_smoothing: float) -> Loss:
    if _wrong():
        os.kill(os.getpid(), signal.SIGKILL)
    return non_saturating(label_smoothing=label_smoothing)


def hangs(*, label_smoothing: float) -> Loss:
    while _wrong():
        time.sleep(0.1)
    return non_saturating(label_smoothing=label_smoothing)


def diverges(*, label_smoothing: float) -> Loss:
    def not_a_number(real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() * torch.nan

    return non_saturating(label_smoothing=label_smoothing)._replace(generator=not_a_number)


def slow(*, label_smoothing: float) -> Loss:
    """As a real run: long enough to be caught in the middle."""
    right = non_saturating(label_smoothing=label_smoothing)

    def late(real: Tensor, fake: Tensor) -> Tensor:
        time.sleep(0.03)
        return right.generator(real, fake)

    return right._replace(generator=late)


def _wrong() -> bool:
    return Path(os.environ["FAULTY"]).exists()
