"""Losses that go wrong as long as the file named by FAULTY is there."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from gan.losses import Loss, non_saturating


def raises() -> Loss:
    if _wrong():
        raise RuntimeError("no such loss\nand more of it")
    return non_saturating()


def is_killed() -> Loss:
    if _wrong():
        os.kill(os.getpid(), signal.SIGKILL)
    return non_saturating()


def hangs() -> Loss:
    while _wrong():
        time.sleep(0.1)
    return non_saturating()


def diverges() -> Loss:
    def not_a_number(fake: Tensor) -> Tensor:
        return fake.mean() * torch.nan

    return non_saturating()._replace(generator=not_a_number)


def slow() -> Loss:
    """As a real run: long enough to be caught in the middle."""
    right = non_saturating()

    def late(fake: Tensor) -> Tensor:
        time.sleep(0.03)
        return right.generator(fake)

    return right._replace(generator=late)


def _wrong() -> bool:
    return Path(os.environ["FAULTY"]).exists()
