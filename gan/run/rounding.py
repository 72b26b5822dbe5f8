"""Choices that change a run's rounding and its speed, and nothing else, for this machine."""

import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from omegaconf import DictConfig

from gan.arithmetic import (
    DEFAULT,
    ONEDNN,
    Layer,
    bf16_slowdown,
    fastest_exact_library,
    linear_layers,
    matmul_by,
    onednn_is_exact,
    thread_count,
)
from gan.build import Parts
from gan.distributed.processes import current_processes
from gan.errors import UserError
from gan.run.length import total_steps
from gan.system.startup import core_count


@contextmanager
def rounding_as(cfg: DictConfig) -> Iterator[None]:
    """Compute in the block as a run does. The settings of the process are as before afterwards.

    Args:
        cfg: the configuration of an open run, which leaves nothing to the machine.
    """
    with (
        thread_count(cfg.threads),
        matmul_by(cfg.matmul, tf32=cfg.trainer.precision == "tf32"),
    ):
        yield


LARGE_PRODUCT = 100_000_000
"""Operations in the largest layer's product, for a batch, from which rounding saves time:
a layer of 512 units on images of 28x28, in batches of 128."""
TYPICAL_LAYER = (128, 784, 256)
"""A layer of the default networks."""
CLEARLY_SLOWER = 1.5
"""The slowdown by bf16 that is worth a warning. Processors with units for it are faster by it."""
COMPILED_FROM = 20_000
"""The number of steps from which `trainer.compile=auto` compiles. Compiling takes half a minute,
and then each step takes about a quarter less."""


def choose_rounding(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """Return a new run's threads, the library of its products, and whether it is compiled, where
    the configuration leaves that to the machine.

    Raises:
        UserError: the library rounds to fewer digits here than the run's precision asks for.
    """
    # torch counts the machine's cores, and a container may have fewer.
    processes = current_processes()
    cores = max(1, core_count() // (processes.local_size if processes else 1))
    threads = cfg.threads or min(torch.get_num_threads(), cores)
    chosen: dict[str, Any] = {"threads": threads, "matmul": _choose_library(cfg, parts)}
    if cfg.trainer.compile == "auto":
        chosen["trainer"] = {"compile": _compiling_pays(cfg, parts)}
    return chosen


def is_exact_here(cfg: DictConfig, parts: Parts) -> bool:
    """Return whether a run's library keeps the accuracy that the run asks for on this processor.

    A run that goes on may have begun on another one.
    """
    if cfg.trainer.precision != "fp32" or cfg.matmul != ONEDNN:
        return True
    layers = _layers(cfg, parts)
    return not layers or onednn_is_exact(layers)


def gains_by_rounding(cfg: DictConfig, parts: Parts) -> bool:
    """Return whether `trainer.precision=tf32` may well make a run faster, and less exact.

    The processor has units for it then, and the products are a large part of the steps.
    """
    if cfg.trainer.precision != "fp32" or parts.device.type != "cpu":
        return False
    layers = _layers(cfg, parts)
    is_large = bool(layers) and 2 * math.prod(layers[0]) >= LARGE_PRODUCT
    return is_large and torch.backends.mkldnn.is_available() and not onednn_is_exact(layers)


def rounding_doubt(cfg: DictConfig, parts: Parts) -> str | None:
    """Return a warning if a run's precision makes it slower on this processor."""
    if cfg.trainer.precision != "bf16" or parts.device.type != "cpu":
        return None
    # Networks without linear layers have convolutions, which are products of such a size as well.
    layer = next(iter(_layers(cfg, parts)), TYPICAL_LAYER)
    slowdown = bf16_slowdown(layer)
    if slowdown < CLEARLY_SLOWER:
        return None
    return (
        f"trainer.precision=bf16: this processor takes {slowdown:.0f} times as long for products "
        "in bf16 as in fp32; trainer.precision=fp32 is faster"
    )


def _layers(cfg: DictConfig, parts: Parts) -> tuple[Layer, ...]:
    return linear_layers((parts.generator, parts.discriminator), cfg.trainer.batch_size)


def _choose_library(cfg: DictConfig, parts: Parts) -> str:
    precision, wanted = cfg.trainer.precision, cfg.matmul
    layers = _layers(cfg, parts)
    if wanted == ONEDNN and not torch.backends.mkldnn.is_available():
        raise UserError(f"matmul={ONEDNN}: is not a part of this torch; matmul={DEFAULT} is")
    if wanted == ONEDNN and precision == "fp32" and layers and not onednn_is_exact(layers):
        raise UserError(
            f"matmul={ONEDNN}: rounds to fewer digits than fp32 on this processor; "
            "trainer.precision=tf32 allows it"
        )
    if wanted or parts.device.type != "cpu":
        return str(wanted or DEFAULT)
    if precision == "tf32":
        return ONEDNN if torch.backends.mkldnn.is_available() else DEFAULT
    return fastest_exact_library(layers) if precision == "fp32" else DEFAULT


def _compiling_pays(cfg: DictConfig, parts: Parts) -> bool:
    """Return whether a run is long enough to be compiled on this machine, and allows it."""
    steps = total_steps(cfg, parts.data.size // cfg.trainer.batch_size)
    compiler = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return (
        parts.device.type == "cpu"
        and current_processes() is None
        and steps >= COMPILED_FROM
        and shutil.which(os.environ.get("CXX", compiler)) is not None
    )
