"""Features of Inception, and the errors if they cannot be computed."""

import hashlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of random weights, as the published ones are too large for a test."""
    torchvision()
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Untrained(library.FeatureExtractorInceptionV3):  # type: ignore[misc, name-defined]
        def load_state_dict(self, state_dict: object) -> None:
            """Keep the random weights."""

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network = Untrained("inception", ["2048"], empty)
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            # The usual initialization would leave next to nothing after 94 layers.
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    path = tmp_path_factory.mktemp("weights") / "made.pth"
    torch.save(network.state_dict(), path)
    return path


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
def test_error_without_weights_names_their_size_hash_and_command_and_nothing_is_downloaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    with pytest.raises(UserError, match="need the weights") as raised:
        inception.load()
    text = str(raised.value)
    assert f"{folder / NAME}, which are not there: 95,628,359 bytes, sha256 6726825d0af5" in text
    assert f"fetch them by: curl --create-dirs -L -o {folder / NAME} https://" in text
    assert list(folder.iterdir()) == []


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
@pytest.mark.parametrize("name", inception.FILES)
def test_weights_with_another_hash_are_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"half a download")
    digest = hashlib.sha256(b"half a download").hexdigest()
    with pytest.raises(UserError, match=f"{name}: has the sha256 {digest}, and features.sha256="):
        inception.load()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
def test_a_file_that_holds_no_weights_is_refused_and_runs_no_code(folder: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (folder / "touched",)

    weights = folder / "mine.pth"
    for content in (Harmful(), {"fc.bias": torch.zeros(3)}):
        torch.save(content, weights)
        with pytest.raises(UserError, match=r"mine.pth: no weights of Inception"):
            inception.load(weights=weights, sha256=None)
        inception.load.cache_clear()
    assert not (folder / "touched").exists()


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
@pytest.mark.parametrize("channels", [1, 3])
def test_features_and_probabilities_agree_with_torch_fidelity(
    made: Path, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    monkeypatch.setattr(inception, "BATCH", 1)
    extractor = inception.load(weights=made, sha256=None)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    assert extractor.facts == {"name": "inception-v3-compat", "sha256": digest[:12]}
    images = torch.randint(256, (2, channels, 28, 28), dtype=torch.uint8)
    features = extractor.features(images)
    assert (features.dtype, features.shape) == (torch.float64, (2, inception.WIDTH))
    network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(made))
    theirs, logits = network(images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(features, theirs.double(), rtol=1e-4, atol=1e-4)
    assert features.std() > 0.01
    expected = logits.double().softmax(1)
    torch.testing.assert_close(extractor.classify(features), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.crosscheck
@pytest.mark.usefixtures("_torch_fidelity")
@pytest.mark.parametrize("channels", [1, 3])
def test_features_resized_by_pytorch_agree_with_pytorch_fid(
    made: Path, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytorch_fid import inception as library

    state = torch.load(made, weights_only=True)
    monkeypatch.setattr(library, "load_state_dict_from_url", lambda *given, **named: state)
    network = library.InceptionV3().eval()
    images = torch.randint(256, (2, channels, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        theirs = network(images.expand(-1, 3, -1, -1).float() / 255)[0].flatten(1).double()
    extractor = inception.load(weights=made, sha256=None, resizing="pytorch")
    assert extractor.facts["name"] == "inception-v3-compat/pytorch"
    features = extractor.features(images)
    torch.testing.assert_close(features, theirs, rtol=1e-4, atol=1e-4)
    other = inception.load(weights=made, sha256=None).features(images)
    assert not torch.allclose(features, other, rtol=1e-3, atol=1e-3), "resizing matters"
