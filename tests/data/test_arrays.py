"""Data sets from arrays: layouts of images, labels of any kind, held-out samples, and mistakes."""

from typing import Any

import numpy as np
import pytest
import torch

from gan.data import Data, image_data, series_data, vector_data
from gan.data.arrays import to_numpy
from gan.data.base import check_data
from gan.errors import UserError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (20, 3, 6, 8), dtype=np.uint8)
VECTORS = RANDOM.normal(size=(20, 5))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (PIXELS[:, 0], PIXELS[:, :1]),
        (PIXELS, PIXELS),
        (PIXELS[:, :1], PIXELS[:, :1]),
        (PIXELS.transpose(0, 2, 3, 1), PIXELS),
        (PIXELS[:, :1].transpose(0, 2, 3, 1), PIXELS[:, :1]),
        (torch.from_numpy(PIXELS), PIXELS),
    ],
    ids=["n h w", "n c h w", "n 1 h w", "n h w c", "n h w 1", "tensor"],
)
def test_images_of_every_layout_are_the_same_images(array: Any, expected: np.ndarray) -> None:
    data = image_data(array, test=array)
    assert np.array_equal(data.images.numpy(), expected)
    assert np.array_equal(data.test_images.numpy(), expected)
    assert data.shape == expected.shape[1:]
    check_data(data)


def test_channels_last_tells_two_layouts_apart() -> None:
    pixels = PIXELS[:, :, :, :3]
    with pytest.raises(UserError, match="set channels_last"):
        image_data(pixels)
    assert image_data(pixels, channels_last=False).shape == (3, 6, 3)
    assert image_data(pixels, channels_last=True).shape == (3, 3, 6)


def test_one_sample_in_ten_is_held_out_always_the_same_ones() -> None:
    data = vector_data(np.arange(50.0)[:, None])
    values = data.scaling.to_own_units(torch.cat([data.samples, data.test_samples]))
    assert sorted(values.flatten().round().tolist()) == list(range(50))
    assert (data.size, data.real_size("test")) == (45, 5)
    again = vector_data(np.arange(50.0)[:, None])
    assert torch.equal(again.test_samples, data.test_samples)
    assert vector_data(VECTORS[:2]).real_size("test") == 1


@pytest.mark.parametrize(
    "labels",
    [
        [5, 9, 7] * 6 + [5, 5],
        ["ant", "cat", "bee"] * 6 + ["ant", "ant"],
        np.array(["ant", "cat", "bee"] * 6 + ["ant", "ant"], dtype=object),
        np.array([-1, 10, 2] * 6 + [-1, -1], dtype=np.int8),
        np.array([-1, 10, 2] * 6 + [-1, -1], dtype=object),
        torch.tensor([5, 9, 7] * 6 + [5, 5]),
    ],
    ids=["numbers", "texts", "objects", "small numbers", "numbers as objects", "tensor"],
)
def test_classes_are_numbered_in_the_order_of_their_labels(labels: Any) -> None:
    data = vector_data(VECTORS, labels, test=VECTORS, test_labels=labels)
    assert data.classes == 3
    for numbers in (data.labels, data.test_labels):
        assert numbers.dtype == torch.int64
        assert numbers.tolist() == [0, 2, 1] * 6 + [0, 0]


def test_labels_stay_with_their_samples_where_some_are_held_out() -> None:
    labels = np.arange(20) % 4
    data = vector_data(labels[:, None].astype(float), labels)
    for split in ("train", "test"):
        samples, numbers = data.real(split, data.real_size(split))
        values = data.scaling.to_own_units(samples).flatten()
        assert values.round().tolist() == numbers.tolist()


def test_every_class_has_samples_to_train_on() -> None:
    for rare in range(20):
        labels = np.zeros(20, dtype=int)
        labels[rare] = 1
        data = vector_data(VECTORS, labels)
        assert (data.frequencies() > 0).all(), rare
        assert data.real_size("test") >= 1
    with pytest.raises(UserError, match="too few of each class to hold some out; give test sampl"):
        vector_data(VECTORS[:2], [0, 1])


@pytest.mark.parametrize("labels", [None, [7] * 20])
def test_one_class_is_a_data_set_too(labels: Any) -> None:
    data = vector_data(VECTORS, labels)
    assert (data.classes, data.frequencies().tolist()) == (1, [1.0])
    check_data(data)


BROKEN = VECTORS.copy()
BROKEN[3, 1] = np.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vector_data(BROKEN), r"vectors: 1 values are not finite, the first is nan at \[3"),
        (lambda: series_data(BROKEN * np.nan), "series: 100 values are not finite"),
        (lambda: vector_data(VECTORS, test=BROKEN), "test: 1 values are not finite"),
        (lambda: vector_data(np.ma.masked_less(VECTORS, 0.2)), "of its values are masked"),
        (lambda: vector_data(VECTORS[0]), r"shape \(5,\) is not"),
        (lambda: vector_data(PIXELS), "is not"),
        (lambda: series_data(np.zeros((9, 0))), "is not"),
        (lambda: vector_data(VECTORS.astype(str)), "must be numbers, not <U"),
        (lambda: vector_data(VECTORS[:1]), "there must be two or more"),
        (lambda: vector_data(VECTORS[:0]), "there must be two or more"),
        (lambda: vector_data([[1.0], [1.0, 2.0]]), "vectors: not one array"),
        (lambda: vector_data(VECTORS, test=VECTORS[:, :4]), r"test: shape \(20, 4\) does not fit"),
        (lambda: vector_data(VECTORS, test=VECTORS[:0]), "test: holds nothing"),
        (lambda: vector_data(VECTORS, [1, 2]), r"labels: shape \(2,\); there must be 20"),
        (lambda: vector_data(VECTORS, VECTORS[:, 0]), "labels: must be whole numbers or texts"),
        (lambda: vector_data(VECTORS, [None] * 20), "labels: None at place 0"),
        (lambda: vector_data(VECTORS, ["a", np.nan] * 10), "labels: nan at place 1"),
        (lambda: vector_data(VECTORS, test_labels=[1]), "test_labels: given without test"),
        (lambda: vector_data(VECTORS, [1] * 20, test=VECTORS), "test_labels: missing"),
        (
            lambda: vector_data(VECTORS, test=VECTORS, test_labels=[1] * 20),
            "labels: missing, as the other samples have labels",
        ),
        (
            lambda: vector_data(VECTORS, [1] * 20, test=VECTORS, test_labels=[2] * 20),
            "test_labels: 2 is not among the labels",
        ),
        (lambda: image_data(PIXELS / 255), "images: pixels must be uint8 from 0 to 255, not float"),
        (lambda: image_data(PIXELS > 9), "not bool"),
        (lambda: image_data(PIXELS[:, :2]), "with 1 channel or 3"),
        (lambda: image_data(PIXELS[0, 0]), "is none of"),
    ],
)
def test_a_mistake_in_arrays_is_one_line(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


class Changed:
    """A data set in which some members are others."""

    def __init__(self, data: Data, **members: Any):
        self._data, self._members = data, members

    def __getattr__(self, name: str) -> Any:
        return self._members[name] if name in self._members else getattr(self._data, name)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"shape": (6,)}, r"real samples of shape \(1, 5\) .* do not fit data of shape \(6,\)"),
        ({"real": lambda s, n: (torch.zeros(n, 5), torch.full((n,), 3))}, "from 0 to 0"),
        ({"real": lambda s, n: (torch.zeros(n, 5).double(), torch.zeros(n).long())}, "float32"),
        (
            {
                "shape": (2, 4, 4),
                "real": lambda s, n: (torch.zeros(n, 2, 4, 4), torch.zeros(n).long()),
            },
            "images are uint8 and have 1 channel or 3",
        ),
    ],
)
def test_a_data_set_that_is_not_what_it_says_is_refused(members: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        check_data(Changed(vector_data(VECTORS), **members))
    assert "\n" not in str(raised.value)


def test_arrays_of_other_numbers_are_read() -> None:
    whole = np.ma.masked_array(VECTORS, mask=False)
    halves = torch.tensor(VECTORS, dtype=torch.bfloat16)
    assert np.array_equal(to_numpy("whole", whole), VECTORS)
    assert np.array_equal(to_numpy("halves", halves), halves.float().numpy())
