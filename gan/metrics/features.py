"""Feature extractors: what makes numbers of samples that metrics can compare."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gan.arithmetic import in_double
from gan.data import Data
from gan.errors import UserError, first_line, is_out_of_memory
from gan.metrics import inception, lenet

BATCH = 250
"""Samples that go through an extractor of somebody else's at once."""


class FeatureExtractor(Protocol):
    """An extractor of features, with facts about itself for the record."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """The `name` of the extractor and the `sha256` of its weights. Values that were measured
        with other facts do not compare."""

    @property
    def width(self) -> int:
        """The number of features of a sample."""

    def features(self, samples: Tensor, /) -> Tensor:
        """Return features, float64 (n, width), of raw samples (n, *shape)."""


class Values:
    """Features of samples that are no images: their own values."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.facts = {"name": "points" if shape == (2,) else "values"}
        self.width = torch.Size(shape).numel()

    def features(self, samples: Tensor) -> Tensor:
        """Return samples (n, *shape) as float64 (n, values)."""
        return in_double(samples.flatten(1))


class OwnExtractor:
    """An extractor of somebody else's: an object with `features`, or a function of samples."""

    def __init__(self, made: Any, name: str, origin: str, samples: Tensor):
        """Try the extractor on a few samples.

        Args:
            made: an object whose method `features` returns features (n, width) of raw samples
                (n, *shape), or a function or module that returns them itself. A module is moved to
                the device of the samples and is used in evaluation mode.
            name: its name for the record.
            origin: a text that differs where features differ and the weights do not.
            samples: raw samples (n, *shape), at least one.

        Raises:
            UserError: it is no extractor, or returns something else than features.
        """
        # A module may have a part of this name, which is no whole extractor.
        own = getattr(made, "features", made)
        self._call: Callable[[Tensor], Any] = made if isinstance(own, nn.Module) else own
        if not callable(self._call):
            kind = type(made).__name__
            raise UserError(f"must make an object with `features`, or a function, not a {kind}")
        self._modules = [part for part in _parts(made) if isinstance(part, nn.Module)]
        for module in self._modules:
            module.eval().requires_grad_(False)
        self.facts: dict[str, Any] = {"name": name, "sha256": content_hash(made, origin)[:12]}
        """Its name, and the first 12 digits of the hash of its weights, settings and code."""
        self.width = self.features(samples).shape[1]
        """The number of features of a sample."""

    @torch.no_grad()
    def features(self, samples: Tensor) -> Tensor:
        """Return features, float64 (n, width), of raw samples (n, *shape).

        Raises:
            UserError: the extractor returns another shape.
        """
        for module in self._modules:
            module.to(samples.device)
        parts = []
        for part in samples.split(BATCH):
            found = torch.as_tensor(self._call(part))
            if found.dim() != 2 or len(found) != len(part) or not found.shape[1]:
                got = f"{tuple(found.shape)} for {len(part)} samples"
                raise UserError(f"must return features (n, width), not {got}")
            parts.append(in_double(found.to(samples.device)))
        return torch.cat(parts)


def as_extractor(made: Any, name: str, origin: str, samples: Tensor) -> FeatureExtractor:
    """Return what a configuration made as a feature extractor that fits the samples.

    Args:
        made: a whole `FeatureExtractor`, or all that `OwnExtractor` takes.
        name, origin, samples: as for `OwnExtractor`.

    Raises:
        UserError: it is no extractor, or fails on the samples.
    """
    try:
        if not all(hasattr(made, member) for member in ("facts", "width", "features")):
            return OwnExtractor(made, name, origin, samples)
        extractor: FeatureExtractor = made
        extractor.features(samples)
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        tried = f"{samples.dtype} samples of shape {tuple(samples.shape)}"
        raise UserError(f"fails on {tried} ({first_line(error)})") from error
    return extractor


def feature_extractor(data: Data) -> FeatureExtractor:
    """Return LeNet for grey images, Inception for colour images and `Values` for other samples.

    Raises:
        UserError: Inception cannot be loaded.
    """
    if len(data.shape) != 3:
        return Values(data.shape)
    if data.shape[0] == 1:
        return lenet.load(data.classifier or "mnist")
    return inception.load()


def content_hash(made: Any, origin: str = "") -> str:
    """Return the sha256 of the tensors, arrays and plain values that an object holds, with those
    of the modules among its attributes and of the variables that a function has kept.

    Args:
        origin: a text that is hashed too.
    """
    digest = hashlib.sha256(origin.encode())
    for part in _parts(made):
        named = part.state_dict() if isinstance(part, nn.Module) else {"": part}
        for name, value in named.items():
            if isinstance(value, Tensor | np.ndarray):
                array = torch.as_tensor(value).detach().cpu().contiguous()
                digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
                digest.update(array.view(-1).view(torch.uint8).numpy().data)
            elif isinstance(value, bool | int | float | str | list | dict | tuple | None):
                text = json.dumps([name, value], default=lambda other: type(other).__name__)
                digest.update(f"{text}\n".encode())
    return digest.hexdigest()


_HOLDERS = (nn.Module, Tensor, np.ndarray, list, tuple, dict)
"""Types of what lists and dictionaries may hold that is not hashed with them."""


def _parts(made: Any, depth: int = 3) -> list[Any]:
    """Return an object, its attributes and the variables that a function has kept, and theirs."""
    if isinstance(made, nn.Module | Tensor | np.ndarray) or not depth:
        return [made]
    held = [cell.cell_contents for cell in getattr(made, "__closure__", None) or ()]
    held += getattr(made, "__dict__", {}).values()
    if isinstance(made, list | tuple | dict):
        # Plain values are hashed with the list or dictionary that holds them.
        items = made.values() if isinstance(made, dict) else made
        held += [item for item in items if isinstance(item, _HOLDERS)]
    if isinstance(made, MethodType):
        held += [made.__self__, made.__func__]
    if isinstance(made, partial):
        held += [made.func, *made.args, *made.keywords.values()]
    return [made, *(part for one in held for part in _parts(one, depth - 1))]
