"""Arrays and tensors of one's own: their labels, and their split into training and test samples."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gan.errors import UserError
from gan.seeds import derive_seed

Array = np.ndarray | Tensor | Sequence[Any]
"""A numpy array, a tensor, or nested lists of values."""


class Split(NamedTuple):
    """Samples to train on and samples to test with, and their labels from 0 to classes - 1."""

    samples: np.ndarray
    labels: np.ndarray
    test_samples: np.ndarray
    test_labels: np.ndarray
    classes: int

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the four arrays as tensors."""
        return (
            _tensor(self.samples),
            _tensor(self.labels),
            _tensor(self.test_samples),
            _tensor(self.test_labels),
        )


def to_numpy(name: str, array: Array) -> np.ndarray:
    """Return an array of numbers or texts on the host, in the machine's order of bytes.

    Raises:
        UserError: its rows have different lengths, or some of its values are masked.
    """
    if masked := int(np.ma.getmaskarray(array).sum()) if np.ma.isMaskedArray(array) else 0:
        raise UserError(
            f"{name}: {masked:,} of its values are masked; fill or leave out such values"
        )
    if isinstance(array, Tensor):
        tensor = array.detach().cpu()
        # NumPy has no such numbers.
        array = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    try:
        found = array.numpy() if isinstance(array, Tensor) else np.asarray(array)
    except ValueError as error:
        raise UserError(f"{name}: not one array ({error})") from error
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def split(
    name: str,
    samples: np.ndarray,
    labels: Array | None,
    test: np.ndarray | None,
    test_labels: Array | None,
) -> Split:
    """Number the classes, and hold out one sample in ten if there are no test samples.

    Args:
        name: the samples' name in errors.
        samples: (n, *shape).
        labels: whole numbers or texts (n,), which need not start at 0. The classes are numbered
            in the order of the numbers or of the alphabet. None makes one class.
        test: (m, *shape), or None.
        test_labels: the labels of `test`, among those of `labels`.

    Raises:
        UserError: the arrays do not fit together, or a label is missing or a fraction.
    """
    known = labels if labels is not None else np.zeros(len(samples), dtype=np.int64)
    names, numbers = np.unique(_checked("labels", known, len(samples)), return_inverse=True)
    if test is None:
        if test_labels is not None:
            raise UserError("test_labels: given without test")
        if len(samples) < 2:
            raise UserError(f"{name}: {len(samples)} of them; there must be two or more")
        held_out = np.zeros(len(samples), dtype=bool)
        generator = torch.Generator().manual_seed(derive_seed(0, "held out"))
        order = torch.randperm(len(samples), generator=generator)
        held_out[order[: max(1, len(samples) // 10)].numpy()] = True
        for number in np.setdiff1d(numbers, numbers[~held_out]):
            # A class must be trained on to be generated.
            held_out[np.flatnonzero(numbers == number)[0]] = False
        if not held_out.any():
            raise UserError(f"{name}: too few of each class to hold some out; give test samples")
        return Split(
            samples[~held_out], numbers[~held_out], samples[held_out], numbers[held_out], len(names)
        )
    if test.shape[1:] != samples.shape[1:]:
        raise UserError(f"test: shape {test.shape} does not fit {name} of shape {samples.shape}")
    if not len(samples) or not len(test):
        raise UserError(f"{name if len(test) else 'test'}: holds nothing")
    if (labels is None) != (test_labels is None):
        missing = "labels" if labels is None else "test_labels"
        raise UserError(f"{missing}: missing, as the other samples have labels")
    known = test_labels if test_labels is not None else np.zeros(len(test), dtype=np.int64)
    known = _checked("test_labels", known, len(test))
    if strange := sorted(set(known.tolist()) - set(names.tolist()), key=str):
        raise UserError(f"test_labels: {strange[0]!r} is not among the labels")
    return Split(samples, numbers, test, np.searchsorted(names, known), len(names))


def _checked(name: str, labels: Array, count: int) -> np.ndarray:
    """Return labels (count,) as whole numbers or texts."""
    # numpy would turn a missing value among texts into the text "nan".
    array = to_numpy(name, labels if hasattr(labels, "dtype") else np.array(labels, dtype=object))
    if array.shape != (count,):
        raise UserError(f"{name}: shape {array.shape}; there must be {count}, one for each sample")
    if array.dtype == object:
        for place, label in enumerate(array):
            if not isinstance(label, str | int | np.integer):
                raise UserError(f"{name}: {label!r} at place {place} is no whole number or text")
        array = np.array(array.tolist())
    if array.dtype.kind not in "iubUS":
        raise UserError(f"{name}: must be whole numbers or texts, not {array.dtype}")
    return array


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
