"""Where Inception's features come from, and what is said when they cannot be had."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gan.data.vision import torchvision
from gan.errors import UserError
from gan.metrics import inception

NAME = "weights-inception-2015-12-05-6726825d.pth"


@pytest.fixture(autouse=True)
def _loaded_anew() -> Iterator[None]:
    inception.load.cache_clear()
    yield
    inception.load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


@pytest.fixture
def _torch_fidelity() -> None:
    if not importlib.util.find_spec("torch_fidelity"):
        pytest.skip("torch-fidelity is not installed")
    torchvision()


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # The second, as another test may have imported it.
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[inception\]"'):
        inception.load()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_without_weights_their_place_and_address_are_named_and_nothing_is_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(UserError, match="need the weights") as raised:
        inception.load()
    assert f"{folder / NAME}, to be had from https://" in str(raised.value)
    assert list(folder.iterdir()) == []


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_weights_of_another_hash_are_not_opened(folder: Path) -> None:
    (folder / NAME).write_bytes(b"half a download")
    with pytest.raises(UserError, match=f"{NAME} is damaged; to be had from https://"):
        inception.load()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_features_are_those_of_the_network_at_its_last_layer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With random weights: the real ones are too large to come along."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    class Untrained(library.FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state_dict: object) -> None:
            """Keeps what it was made with."""

    empty = folder / "empty.pth"
    torch.save({}, empty)
    weights = folder / "weights.pth"
    torch.save(Untrained("inception", ["2048"], str(empty)).state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    named = weights.rename(folder / f"weights-inception-{digest[:8]}.pth")
    monkeypatch.setattr(library, "URL_INCEPTION_V3", f"https://host/{named.name}")
    monkeypatch.setattr(inception, "BATCH", 2)

    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    extractor = inception.load()
    features = extractor.features(images)
    assert extractor.facts == {"name": "inception-v3-compat", "sha256": digest[:12]}
    assert (features.dtype, features.shape) == (torch.float64, (3, inception.WIDTH))
    network = library.FeatureExtractorInceptionV3("inception", ["2048"], str(named))
    assert torch.allclose(features, network(images)[0].double(), rtol=1e-4, atol=1e-6)
    assert features.std() > 0
