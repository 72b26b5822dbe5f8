"""Features of Inception, and the errors if they cannot be computed."""

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
def _empty_cache() -> Iterator[None]:
    inception.load.cache_clear()
    yield
    inception.load.cache_clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty folder in which weights are looked for."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


@pytest.fixture
def _torch_fidelity() -> None:
    if not importlib.util.find_spec("torch_fidelity"):
        pytest.skip("torch-fidelity is not installed")
    torchvision()


def test_error_without_torch_fidelity_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Another test may have imported the second module.
    for name in ("torch_fidelity", "torch_fidelity.feature_extractor_inceptionv3"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r'pip install "gan-sweeps\[inception\]"'):
        inception.load()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_error_without_weights_names_their_path_and_address_and_nothing_is_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(UserError, match="need the weights") as raised:
        inception.load()
    assert f"{folder / NAME}, to be had from https://" in str(raised.value)
    assert list(folder.iterdir()) == []


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_weights_with_another_hash_are_refused(folder: Path) -> None:
    (folder / NAME).write_bytes(b"half a download")
    with pytest.raises(UserError, match=f"{NAME} is damaged; to be had from https://"):
        inception.load()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_features_are_the_last_layer_of_the_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are random, as the published ones are too large for a test."""
    from torch_fidelity import feature_extractor_inceptionv3 as library

    class Untrained(library.FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, state_dict: object) -> None:
            """Keep the random weights."""

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
