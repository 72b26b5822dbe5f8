"""Images: conversion of pixels, order of batches, splits and pictures."""

import gc
import threading
from dataclasses import replace

import pytest
import torch

from gan.data import (
    Data,
    ImageData,
    Mixture,
    Sampler,
    to_float,
    to_raw_samples,
    to_uint8,
)
from gan.data.pictures import grid
from gan.errors import UserError

CPU = torch.device("cpu")


def test_pixels_survive_conversion_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(pixels)
    assert floats[[0, 255]].tolist() == [-1, 1]
    assert floats.dtype == torch.float32
    assert torch.equal(to_uint8(floats), pixels)


def test_floats_become_the_nearest_pixel_and_stay_in_range() -> None:
    floats = torch.tensor([-1.2, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 0.0, 1.2])
    assert to_uint8(floats).tolist() == [0, 0, 1, 128, 255]


def test_each_epoch_is_a_permutation_without_its_incomplete_last_batch() -> None:
    sampler = Sampler(10, 3, seed=0, device=CPU)
    assert sampler.batches_per_epoch == 3
    epochs = [
        torch.cat([sampler.batch(3 * epoch + i) for i in range(3)]).tolist() for epoch in range(40)
    ]
    assert all(len(set(epoch)) == 9 and set(epoch) <= set(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 40
    assert {index for epoch in epochs for index in epoch} == set(range(10))


def test_a_batch_depends_only_on_the_seed_and_its_number() -> None:
    ordered = [Sampler(50, 7, seed=4, device=CPU).batch(number) for number in range(21)]
    jumping = Sampler(50, 7, seed=4, device=CPU)
    torch.manual_seed(9)
    for number in (20, 0, 13, 13, 7, 6):
        assert torch.equal(jumping.batch(number), ordered[number])
    assert not torch.equal(Sampler(50, 7, seed=5, device=CPU).batch(0), ordered[0])


@pytest.fixture
def numbered() -> ImageData:
    """Return 30 training and 12 test images, each filled with its index."""

    def images(count: int) -> torch.Tensor:
        return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 4)

    return ImageData(images(30), torch.arange(30) % 5, images(12), torch.arange(12) % 5, 5)


def test_batches_of_images_are_floats_and_labels_in_the_order_of_the_sampler(
    numbered: ImageData,
) -> None:
    batches, sampler = numbered.batches(7, seed=4), Sampler(30, 7, seed=4, device=CPU)
    assert (batches.per_epoch, numbered.shape, numbered.size) == (4, (3, 2, 4), 30)
    for number in (0, 9, 3):
        images, labels = batches.batch(number)
        assert torch.equal(images, to_float(numbered.images[sampler.batch(number)]))
        assert torch.equal(labels, numbered.labels[sampler.batch(number)])


def test_the_order_for_a_seed_stays_the_same_in_every_version() -> None:
    sampler = Sampler(4000, 8, seed=0, device=CPU)
    assert sampler.batch(0).tolist() == [1111, 1929, 2434, 1702, 283, 504, 2175, 1835]
    assert sampler.batch(4321).tolist() == [2123, 3672, 2112, 3103, 3998, 3536, 1284, 2104]


@pytest.mark.parametrize(("split", "size"), [("train", 30), ("test", 12)])
def test_real_images_are_a_fixed_choice_without_replacement(
    numbered: ImageData, split: str, size: int
) -> None:
    state = torch.get_rng_state()
    images, labels = numbered.real(split, 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:, 0, 0, 0] % 5, labels)
    assert len(images.unique(dim=0)) == 10
    assert torch.equal(numbered.real(split, 10)[0], images)
    assert numbered.real_size(split) == size
    assert len(numbered.real(split, size)[0].unique(dim=0)) == size
    assert len(numbered.real(split, 0)[0]) == 0
    with pytest.raises(UserError, match=f"the {split} split: it has {size}"):
        numbered.real(split, size + 1)


def test_images_that_stay_on_the_host_give_the_same_batches_and_real_images(
    numbered: ImageData,
) -> None:
    on_host = replace(numbered, target_device=CPU)
    direct, prefetched = numbered.batches(7, seed=4), on_host.batches(7, seed=4)
    assert prefetched.per_epoch == direct.per_epoch
    for number in (*range(11), 40, 2):
        for mine, other in zip(prefetched.batch(number), direct.batch(number), strict=True):
            assert torch.equal(mine, other)
            assert mine.dtype == other.dtype
    for mine, other in zip(on_host.real("test", 9), numbered.real("test", 9), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(on_host.frequencies(), numbered.frequencies())


def test_the_background_thread_ends_when_its_batches_are_deleted(numbered: ImageData) -> None:
    before = set(threading.enumerate())
    batches = replace(numbered, target_device=CPU).batches(7, seed=0)
    batches.batch(0)
    (thread,) = set(threading.enumerate()) - before
    gc.disable()
    try:
        del batches
        thread.join(30)
    finally:
        gc.enable()
    assert not thread.is_alive()


def test_images_that_need_more_than_half_of_a_gpus_free_memory_stay_on_the_host(
    numbered: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, size = torch.device("cuda:0"), (30 + 12) * 3 * 2 * 4
    moved: list[torch.device] = []

    def to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        moved.append(device)
        return tensor

    def target(data: ImageData, free: int, reserved: int, allocated: int) -> torch.device | None:
        moved.clear()
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 10**9))
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: reserved)
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: allocated)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "to", to)
            device = data.to(cuda).target_device
        assert moved == ([cuda] * 4 if device is None else [])
        return device

    assert target(numbered, 2 * size, 0, 0) is None
    assert target(numbered, 2 * size - 1, 0, 0) == cuda
    # Memory that this process has reserved but does not use counts as free.
    assert target(numbered, size, size + 100, 100) is None
    assert target(numbered, size, size + 100, 101) == cuda
    mapped = replace(numbered, target_device=CPU)
    assert target(mapped, 2 * size, 0, 0) is None
    assert target(mapped, 2 * size - 1, 0, 0) == cuda
    assert mapped.to(CPU).target_device == CPU
    assert numbered.to(CPU).target_device is None


def test_an_unknown_split_is_an_error_with_a_suggestion(numbered: ImageData) -> None:
    message = r"split=tests: .* train, test; did you mean 'test'"
    sets: list[Data] = [numbered, Mixture(torch.eye(2), 0.1)]
    for data in sets:
        with pytest.raises(UserError, match=message):
            data.real_size("tests")
        with pytest.raises(UserError, match=message):
            data.real("tests", 1)


def test_generated_images_become_pixels(numbered: ImageData) -> None:
    assert torch.equal(to_raw_samples(to_float(numbered.images)), numbered.images)


def test_frequencies_are_the_shares_of_the_training_labels() -> None:
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 2, 2])
    data = ImageData(images, labels, images, labels, classes=4)
    assert data.frequencies().tolist() == [0.25, 0.0, 0.75, 0.0]


def test_a_picture_of_images_is_a_grid_with_so_many_columns(numbered: ImageData) -> None:
    images = numbered.test_images[:6]
    for columns in (None, 2):
        assert torch.equal(numbered.picture(images, columns), grid(images, columns))


@pytest.mark.parametrize(("count", "shown"), [(8, 8), (30, 30), (31, 30)])
def test_a_real_picture_shows_training_images_as_far_as_there_are_enough(
    numbered: ImageData, count: int, shown: int
) -> None:
    images, _ = numbered.real("train", shown)
    picture = numbered.real_picture(count, 4)
    assert picture is not None
    assert torch.equal(picture, grid(images, 4))
