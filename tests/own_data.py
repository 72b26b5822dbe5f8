"""Data sets of other people: arrays from a file, and an object with the members of `Data` alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from runs import SHORT
from torch import Tensor

from gan.config.compose import compose
from gan.data import Data, image_data, series_data, vector_data
from gan.data.base import Modes
from gan.data.tensors import Sampler, TensorBatches

KINDS: dict[str, Callable[..., Data]] = {
    "images": image_data,
    "vectors": vector_data,
    "series": series_data,
}


def npz(*, path: Path, kind: str) -> Data:
    """Load the arrays `samples` and, if it is there, `labels` of an npz file."""
    arrays = np.load(path)
    return KINDS[kind](arrays["samples"], arrays.get("labels"))


class Pairs:
    """Points (3,) in a file. Nothing here comes from this project but the order of batches."""

    classes, classifier, shape = 1, None, (3,)
    modes: Modes | None = None

    def __init__(self, points: Tensor):
        self.points = points

    @property
    def size(self) -> int:
        return len(self.points)

    def to(self, device: torch.device) -> "Pairs":
        return type(self)(self.points.to(device))

    def batches(self, batch_size: int, seed: int) -> TensorBatches:
        sampler = Sampler(self.size, batch_size, seed, self.points.device)
        return TensorBatches(self.points, self._labels(self.size), sampler, lambda raw: raw)

    def real(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        return self.points[:count], self._labels(count)

    def real_size(self, split: str) -> int:
        return self.size

    def frequencies(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def picture(self, samples: Tensor, columns: int | None) -> Tensor:
        return torch.zeros(3, 4, 4, dtype=torch.uint8)

    def real_picture(self, count: int, columns: int | None) -> Tensor | None:
        return None

    def _labels(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.int64, device=self.points.device)


class Endless(Pairs):
    """The same points as if they were drawn without end."""

    def real_size(self, split: str) -> int | None:  # type: ignore[override]
        return None


def endless(*, path: Path) -> Endless:
    """Return points from a file of numpy, without saying how many there are."""
    return Endless(torch.from_numpy(np.load(path)).float())


def pairs(*, path: str) -> Pairs:
    """Return points from a file of numpy."""
    return Pairs(torch.from_numpy(np.load(path)).float())


def no_data(*, path: str) -> Any:
    """Return a list, which is no data set."""
    return [path]


def save(path: Path, samples: Any, labels: Any = None) -> Path:
    """Write an npz file for `npz`."""
    np.savez(path, samples=samples, **({} if labels is None else {"labels": labels}))
    return path


def configure(target: str, *overrides: str, **settings: Any) -> DictConfig:
    """Return the configuration of a short run on a data set of this module."""
    # Only the perceptrons have this key.
    others = any(override.startswith("model=") for override in overrides)
    small = [override for override in SHORT if not (others and "hidden_dim" in override)]
    run_length = ("trainer.max_steps=20", "trainer.batch_size=8")
    cfg = compose(*small, "data=digits", *run_length, *overrides)
    cfg.data = OmegaConf.create({"_target_": f"own_data.{target}", **settings})
    return cfg
