"""Data sets that are downloaded: valid and damaged archives, and failing networks."""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import numpy as np
import pytest
import torch

from gan.data import ImageData, cifar10, fashion_mnist, kmnist, mnist, stacked_mnist
from gan.data.vision import torchvision
from gan.errors import UserError


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **settings: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("load", [mnist, fashion_mnist, kmnist, stacked_mnist, cifar10])
def test_an_error_while_offline_is_one_line_and_leaves_nothing(
    tmp_path: Path, load: Callable[..., ImageData], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    with pytest.raises(UserError) as raised:
        load(root=str(root))
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith(f"data.root={root}: ")
    assert f"not in {root}" in message
    assert message.endswith("data=mnist5k needs no download")
    assert list(root.iterdir()) == []
    assert capsys.readouterr().out == ""


@pytest.fixture(scope="session")
def archives() -> Path:
    named = os.environ.get("GAN_TEST_DATA")
    if not named:
        pytest.skip("GAN_TEST_DATA names no folder with the archives of MNIST")
    return Path(named)


def copy_archives(archives: Path, name: str, root: Path) -> None:
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for path in (archives / name / "raw").glob("*.gz"):
        shutil.copyfile(path, raw / path.name)


@pytest.fixture
def mnist_root(archives: Path, tmp_path: Path) -> Path:
    copy_archives(archives, "MNIST", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("offline")
def test_mnist_is_read_from_its_archives(mnist_root: Path) -> None:
    data = mnist(root=str(mnist_root))
    assert data.images.shape == (60000, 1, 28, 28)
    assert data.labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(data.labels).tolist() == counts
    assert data.test_images.shape == (10000, 1, 28, 28)
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(data.test_labels).tolist() == counts
    assert (data.classes, data.classifier) == (10, "mnist")
    assert data.images.float().mean().item() == pytest.approx(0.1307 * 255, abs=0.05)
    assert [path.name for path in mnist_root.iterdir()] == ["MNIST"]

    # A file that was cut short while it was unpacked is not used.
    images = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(gzip.decompress(images.with_suffix(".gz").read_bytes())[:1000000])
    assert torch.equal(mnist(root=str(mnist_root)).images, data.images)


@pytest.mark.usefixtures("offline")
def test_fashion_mnist_is_read_from_its_archives(archives: Path, tmp_path: Path) -> None:
    copy_archives(archives, "FashionMNIST", tmp_path)
    data = fashion_mnist(root=str(tmp_path))
    assert data.images.shape == (60000, 1, 28, 28)
    assert torch.bincount(data.labels).tolist() == [6000] * 10
    assert torch.bincount(data.test_labels).tolist() == [1000] * 10
    assert (data.classes, data.classifier) == (10, "fashion_mnist")


@pytest.mark.usefixtures("offline")
def test_stacked_mnist_has_every_mode(mnist_root: Path) -> None:
    data = stacked_mnist(root=str(mnist_root))
    assert (data.images.shape, data.test_images.shape) == ((60000, 3, 28, 28), (10000, 3, 28, 28))
    assert (data.classes, data.classifier) == (1000, "mnist")
    assert len(data.labels.unique()) == len(data.test_labels.unique()) == 1000


@pytest.mark.usefixtures("offline")
def test_an_error_names_the_archive_with_a_wrong_md5(mnist_root: Path) -> None:
    archive = mnist_root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    before = sorted(mnist_root.rglob("*"))
    with pytest.raises(UserError, match="does not have the md5 d53e105e") as raised:
        mnist(root=str(mnist_root))
    assert str(archive) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(mnist_root.rglob("*")) == before


Archives = dict[str, bytes]
SPLITS, KINDS = ("train", "t10k"), ("images-idx3", "labels-idx1")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Archives:
    """Return archives of 20 training and 10 test images in place of those of MNIST."""
    archives = {}
    for split, count in zip(SPLITS, (20, 10), strict=True):
        pixels, labels = bytes(range(count)) * 784, bytes(range(10)) * (count // 10)
        images = struct.pack(">4I", 0x803, count, 28, 28) + pixels
        archives[f"{split}-images-idx3-ubyte.gz"] = gzip.compress(images, mtime=0)
        classes = struct.pack(">2I", 0x801, count) + labels
        archives[f"{split}-labels-idx1-ubyte.gz"] = gzip.compress(classes, mtime=0)
    listed = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision().datasets.MNIST, "resources", listed)
    return archives


def serve(monkeypatch: pytest.MonkeyPatch, archives: Archives) -> list[str]:
    """Serve these archives, and no others; return the list of names that are asked for."""
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


def test_a_download_is_used_again(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, small)
    data = mnist(root=str(tmp_path / "new" / "root"))
    assert data.images.flatten().tolist() == list(range(20)) * 784
    assert data.labels.tolist() == list(range(10)) * 2
    assert data.test_images.flatten().tolist() == list(range(10)) * 784
    assert data.test_labels.tolist() == list(range(10))
    assert set(asked) == set(small)
    asked.clear()
    again = mnist(root=str(tmp_path / "new" / "root"))
    assert torch.equal(again.images, data.images)
    assert asked == []


@pytest.mark.parametrize("served", [0, 1, 3])
def test_an_error_tells_why_a_download_failed_and_leaves_nothing(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: int
) -> None:
    serve(monkeypatch, dict(list(small.items())[:served]))
    with pytest.raises(UserError, match="no route to host") as raised:
        mnist(root=str(tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_with_wrong_bytes_and_leaves_nothing(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "train-labels-idx1-ubyte.gz"
    serve(monkeypatch, small | {name: b"<html>Please log in</html>"})
    with pytest.raises(UserError, match=name) as raised:
        mnist(root=str(tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_only_missing_archives_are_downloaded(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "t10k-labels-idx1-ubyte.gz"
    folder = raw_folder(tmp_path, {name: small[name] for name in small if name != missing})
    asked = serve(monkeypatch, small)
    assert len(mnist(root=str(tmp_path)).images) == 20
    assert set(asked) == {missing}
    for name, content in small.items():
        assert (folder / name).read_bytes() == content


@pytest.mark.parametrize("name", [f"{s}-{k}-ubyte" for s in SPLITS for k in KINDS])
@pytest.mark.parametrize("length", [0, 3, 15])
def test_an_unpacked_file_cut_short_gives_way_to_its_archive(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, length: int
) -> None:
    folder = raw_folder(tmp_path, small)
    asked = serve(monkeypatch, {})
    before = mnist(root=str(tmp_path))
    (folder / name).write_bytes(gzip.decompress(small[f"{name}.gz"])[:length])
    after = mnist(root=str(tmp_path))
    assert torch.equal(after.images, before.images)
    assert torch.equal(after.labels, before.labels)
    assert torch.equal(after.test_images, before.test_images)
    assert torch.equal(after.test_labels, before.test_labels)
    assert asked == []


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("load", [mnist, fashion_mnist, stacked_mnist])
def test_archives_in_a_read_only_folder_are_read_without_unpacking(
    archives: Path, load: Callable[..., ImageData]
) -> None:
    before = sorted(archives.rglob("*"))
    assert load(root=archives).size == 60000
    assert sorted(archives.rglob("*")) == before


@pytest.mark.usefixtures("offline")
def test_a_damaged_unpacked_file_is_not_trained_on(
    mnist_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = mnist(root=mnist_root)
    raw = mnist_root / "MNIST" / "raw"
    for archive in raw.glob("*.gz"):
        archive.with_suffix("").write_bytes(gzip.decompress(archive.read_bytes()))
    images = raw / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[1_000_000] ^= 1
    images.write_bytes(content)
    assert torch.equal(mnist(root=mnist_root).images, expected.images)
    assert f"{images} is damaged, and {images.name}.gz is read in its place" in caplog.text
    # Whole files need no archives.
    for archive in raw.glob("*.gz"):
        archive.unlink()
    with pytest.raises(UserError, match=f"{images} may be damaged"):
        mnist(root=mnist_root)
    content[1_000_000] ^= 1
    images.write_bytes(content)
    assert torch.equal(mnist(root=mnist_root).images, expected.images)


def test_an_archive_counts_more_than_another_unpacked_file(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = raw_folder(tmp_path, small)
    serve(monkeypatch, {})
    labels = bytearray(gzip.decompress(small["train-labels-idx1-ubyte.gz"]))
    labels[-1] ^= 1
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    assert mnist(root=tmp_path).labels.tolist() == list(range(10)) * 2


def test_two_processes_download_a_data_set_once(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, small)
    mnist(root=tmp_path / "one")
    once = len(asked)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: mnist(root=tmp_path / "two"), range(2)))
    assert torch.equal(found[0].images, found[1].images)
    assert len(asked) == 2 * once


def test_a_damaged_archive_is_downloaded_again(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "train-images-idx3-ubyte.gz"
    folder = raw_folder(tmp_path, small | {name: small[name][:-5]})
    asked = serve(monkeypatch, small)
    assert len(mnist(root=str(tmp_path)).images) == 20
    assert set(asked) == {name}
    assert (folder / name).read_bytes() == small[name]


CIFAR10 = "cifar-10-python.tar.gz"


@pytest.fixture
def small_cifar10(monkeypatch: pytest.MonkeyPatch) -> Archives:
    """Return an archive of five times 4 training images and 4 test images in place of CIFAR-10's.

    In image i, red is i everywhere, green is the column and blue is the row.
    """
    index = np.arange(24, dtype=np.uint8)[:, None, None]
    red, green, blue = np.broadcast_arrays(
        index, np.arange(32, dtype=np.uint8), np.arange(32, dtype=np.uint8)[:, None]
    )
    rows = np.stack([red, green, blue], axis=1).reshape(24, 3 * 32 * 32)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    contents = {
        name: pickle.dumps({"data": part, "labels": [int(row[0]) % 10 for row in part]})
        for name, part in zip(names, np.split(rows, 6), strict=True)
    }
    contents["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    dataset = torchvision().datasets.CIFAR10
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(buffer.getvalue()).hexdigest())
    monkeypatch.setattr(dataset, "train_list", [[name, md5[name]] for name in names[:5]])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5["batches.meta"]})
    return {CIFAR10: buffer.getvalue()}


def check_cifar10(data: ImageData) -> None:
    assert (data.images.shape, data.test_images.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert (data.classes, data.classifier) == (10, None)
    images = torch.cat([data.images, data.test_images])
    ramp = torch.arange(32, dtype=torch.uint8)
    assert torch.equal(images[:, 0], torch.arange(24).byte().view(-1, 1, 1).expand(24, 32, 32))
    assert torch.equal(images[:, 1], ramp.expand(24, 32, 32))
    assert torch.equal(images[:, 2], ramp.view(1, 32, 1).expand(24, 32, 32))
    assert torch.cat([data.labels, data.test_labels]).tolist() == [i % 10 for i in range(24)]


def test_cifar10_is_downloaded_once(
    small_cifar10: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, small_cifar10)
    check_cifar10(cifar10(root=str(tmp_path)))
    assert set(asked) == {CIFAR10}
    asked.clear()
    check_cifar10(cifar10(root=str(tmp_path)))
    assert asked == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar-10-batches-py", CIFAR10]


@pytest.mark.parametrize("damaged", ["data_batch_3", "test_batch", "batches.meta"])
def test_cifar10_is_restored_from_its_archive(
    small_cifar10: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    serve(monkeypatch, {})
    (tmp_path / CIFAR10).write_bytes(small_cifar10[CIFAR10])
    check_cifar10(cifar10(root=str(tmp_path)))
    with tarfile.open(tmp_path / CIFAR10) as archive:
        archive.extractall(tmp_path, filter="data")
    path = tmp_path / "cifar-10-batches-py" / damaged
    # Unpickling this would fail, so the checksum must be compared first.
    path.write_bytes(path.read_bytes()[:-1])
    check_cifar10(cifar10(root=str(tmp_path)))


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", None])
def test_an_error_names_the_archive_of_cifar10_and_leaves_nothing(
    small_cifar10: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
) -> None:
    serve(monkeypatch, {CIFAR10: content} if content else {})
    with pytest.raises(UserError, match=f"{CIFAR10} is not in {tmp_path}, and") as raised:
        cifar10(root=str(tmp_path))
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_archive_of_cifar10_is_downloaded_again_or_named(
    small_cifar10: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CIFAR10).write_bytes(small_cifar10[CIFAR10][:-9])
    serve(monkeypatch, {})
    with pytest.raises(UserError, match=f"{CIFAR10} does not have the md5 "):
        cifar10(root=str(tmp_path))
    serve(monkeypatch, small_cifar10)
    check_cifar10(cifar10(root=str(tmp_path)))
    assert (tmp_path / CIFAR10).read_bytes() == small_cifar10[CIFAR10]


def test_an_error_about_a_read_only_root_is_one_line(
    small: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, small)
    (tmp_path / "file").touch()
    root = tmp_path / "file" / "root"
    with pytest.raises(UserError) as raised:
        mnist(root=str(root))
    assert str(raised.value).startswith(f"data.root={root}: ")
    assert "\n" not in str(raised.value)


def test_the_needed_parts_of_torchvision_work() -> None:
    assert torchvision().datasets.MNIST.resources
    image = torchvision().transforms.ToTensor()(torch.zeros(2, 3, 1).byte().numpy())
    assert image.shape == (1, 2, 3)
