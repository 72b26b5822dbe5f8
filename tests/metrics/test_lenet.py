"""The classifiers that come with this package, and the training of such classifiers."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from gan.commands.train_classifier import accuracy, save, train
from gan.data import ImageData, mnist5k
from gan.metrics import lenet

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(scope="module")
def digits(data_root: Path) -> ImageData:
    return mnist5k(root=str(data_root))


def published(name: str, count: int) -> tuple[Tensor, Tensor]:
    """Return the first published test images and labels, straight from their archives."""
    root = os.environ.get("GAN_TEST_DATA")
    if not root:
        pytest.skip("GAN_TEST_DATA names no folder with the archives of MNIST")
    raw = Path(root, FOLDERS[name], "raw")
    files = ("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8)
    pixels, labels = (
        torch.from_numpy(
            np.frombuffer(
                gzip.decompress((raw / file).read_bytes()), np.uint8, offset=skipped
            ).copy()
        )
        for file, skipped in files
    )
    return pixels.view(-1, 1, 28, 28)[:count], labels[:count].long()


@pytest.mark.parametrize("name", lenet.NAMES)
def test_weights_are_small_and_hold_their_name_and_accuracy(name: str) -> None:
    path = lenet.WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < 1_000_000
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    facts = lenet.load(name).facts
    assert facts["name"] == f"lenet/{name}"
    assert header["data"] == name
    assert facts["accuracy"] == float(header["test_accuracy"])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(facts["sha256"]) == 12
    assert digest.startswith(facts["sha256"])


@pytest.mark.parametrize("name", lenet.NAMES)
def test_stated_accuracy_is_the_accuracy_on_the_test_images(name: str) -> None:
    network = lenet.load(name)
    images, labels = published(name, 10_000)
    # Rounding differs between machines and may change the answer for an image or two.
    assert accuracy(network, images, labels) == pytest.approx(network.facts["accuracy"], abs=2.5e-4)


def test_classifier_of_mnist_knows_mnist5k(digits: ImageData) -> None:
    assert accuracy(lenet.load("mnist"), digits.test_images, digits.test_labels) > 0.99
    assert accuracy(lenet.load("fashion_mnist"), digits.test_images, digits.test_labels) < 0.4


def test_probabilities_follow_from_features(digits: ImageData) -> None:
    network, images = lenet.load("mnist"), digits.test_images[:20]
    features = network.features(images)
    assert (features.shape, features.dtype) == ((20, lenet.WIDTH), torch.float64)
    assert features.min() == 0
    probabilities = network.classify(features)
    assert torch.allclose(probabilities.sum(1), torch.ones(20))
    assert torch.equal(probabilities, network.probabilities(images))
    with torch.no_grad():
        logits = network(images.float() / 127.5 - 1)
    assert torch.allclose(logits.softmax(1), probabilities, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 7, 19])
def test_features_do_not_depend_on_the_batch_size(
    digits: ImageData, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    network, images = lenet.load("mnist"), digits.test_images[:20]
    whole = network.features(images)
    monkeypatch.setattr(lenet, "BATCH", batch)
    assert torch.allclose(network.features(images), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [32, 56])
def test_resized_images_keep_their_class(digits: ImageData, size: int) -> None:
    network, images, labels = (
        lenet.load("mnist"),
        digits.test_images[:200],
        digits.test_labels[:200],
    )
    large = interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    resized = large.round().clamp(0, 255).to(torch.uint8)
    features = network.features(resized)
    assert features.shape == (200, lenet.WIDTH)
    assert accuracy(network, resized, labels) > 0.97


def test_network_moves_to_the_device_of_the_images() -> None:
    images = torch.empty(3, 1, 28, 28, dtype=torch.uint8, device="meta")
    features = lenet.LeNet().eval().features(images)
    assert (features.device.type, features.shape) == ("meta", (3, lenet.WIDTH))


def test_unknown_classifier_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="no classifier 'kmnist'; there are mnist, fashion_mnist"):
        lenet.load("kmnist")


def test_training_is_repeatable_and_saved_weights_are_the_trained_ones(
    digits: ImageData, tmp_path: Path
) -> None:
    few = ImageData(
        digits.images[::20],
        digits.labels[::20],
        digits.test_images[::5],
        digits.test_labels[::5],
        10,
    )
    path = tmp_path / "folder" / "few.safetensors"

    def trained(seed: int, *, epochs: int = 1, flip: bool = False) -> tuple[lenet.LeNet, float]:
        return train(few, flip=flip, epochs=epochs, batch_size=25, lr=3e-3, seed=seed)

    (first, right), (second, again) = trained(0, epochs=4), trained(0, epochs=4)
    assert right == again
    assert right > 0.5, "32 steps are enough for half of the digits"
    save(first, path, data="few", accuracy=right)
    saved = load_file(path)
    for name, value in second.state_dict().items():
        assert torch.equal(saved[name], value), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"data": "few", "test_accuracy": f"{right:.4f}"}
    assert [entry.name for entry in path.parent.iterdir()] == ["few.safetensors"]

    another = lenet.LeNet()
    another.load_state_dict(saved)
    assert torch.equal(another.eval().features(few.images), first.features(few.images))
    variants = (0, False), (1, False), (0, True)
    weights = [trained(seed, flip=flip)[0].head.weight for seed, flip in variants]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
