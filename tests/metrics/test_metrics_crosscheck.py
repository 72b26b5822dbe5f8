"""Metrics compared with other libraries on the same features."""

import contextlib
import inspect
import io
from typing import Any, cast

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from gan.data.vision import torchvision
from gan.metrics.classes import inception_score
from gan.metrics.frechet import frechet_distance
from gan.metrics.kernel import kernel_distance
from gan.metrics.neighbours import prdc

pytestmark = pytest.mark.crosscheck


@pytest.fixture(scope="module", autouse=True)
def _torchvision() -> None:
    """Import torchvision for torch-fidelity: beside a torch for CPUs it needs this function."""
    torchvision()


@pytest.fixture(scope="module")
def features() -> tuple[Tensor, Tensor]:
    """Return features as after a ReLU, (1500, 96) and (1200, 96): correlated, never negative, and
    half of them mostly 0."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(96, 96, generator=generator).double() / 10
    rare = -1.5 * (torch.arange(96) % 2)
    real, fake = (
        (torch.randn(count, 96, generator=generator).double() @ mixing + rare + shift).relu()
        for count, shift in ((1500, 0.5), (1200, 0.7))
    )
    return real, fake


def test_fid_agrees_with_torchmetrics(features: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.image.fid import _compute_fid

    means_and_covariances = [part for x in features for part in (x.mean(0), torch.cov(x.T))]
    expected = float(_compute_fid(*means_and_covariances))
    assert frechet_distance(*features) == pytest.approx(expected, rel=1e-6)


def test_fid_agrees_with_torch_fidelity(features: tuple[Tensor, Tensor]) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    result = fid_statistics_to_metric(*map(fid_features_to_statistics, features), verbose=False)
    expected = result["frechet_inception_distance"]
    assert frechet_distance(*features) == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(
    "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters,
    reason="pytorch-fid 0.3 needs an argument of scipy.linalg.sqrtm that SciPy 1.18 removes",
)
@pytest.mark.filterwarnings("ignore:The `disp` argument")
def test_fid_agrees_with_pytorch_fid(features: tuple[Tensor, Tensor]) -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    moments = [part for x in features for part in (x.mean(0).numpy(), np.cov(x.numpy().T))]
    assert frechet_distance(*features) == pytest.approx(
        calculate_frechet_distance(*moments), rel=1e-6
    )


def test_inception_score_agrees_with_torch_fidelity(features: tuple[Tensor, Tensor]) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = features[1][:1195]
    expected = isc_features_to_metric(logits, splits=10, shuffle=False)
    value, error = inception_score(logits.softmax(1))
    assert value == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    assert error * 10**0.5 == pytest.approx(expected["inception_score_std"], rel=1e-6)


def test_kid_agrees_with_torchmetrics_on_the_same_subsets(
    features: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchmetrics.image.kid import poly_mmd

    chosen: list[Tensor] = []
    permutation = torch.randperm

    def record_permutation(count: int, **settings: Any) -> Tensor:
        chosen.append(permutation(count, **settings))
        return chosen[-1]

    monkeypatch.setattr(torch, "randperm", record_permutation)
    value, _ = kernel_distance(*features, subsets=10, subset_size=300)
    real, fake = features
    each = [
        float(poly_mmd(real[x[:300]], fake[y[:300]]))
        for x, y in zip(chosen[::2], chosen[1::2], strict=True)
    ]
    assert len(each) == 10
    assert value == pytest.approx(sum(each) / 10, rel=1e-9)


def test_kid_agrees_with_torch_fidelity_within_its_standard_error(
    features: tuple[Tensor, Tensor],
) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    settings = {"kid_subsets": 100, "kid_subset_size": 500, "rng_seed": 2020, "verbose": False}
    result = kid_features_to_metric(*features, **settings)
    value, error = kernel_distance(*features, subsets=100, subset_size=500)
    assert value == pytest.approx(result["kernel_inception_distance_mean"], abs=error)
    assert error < 0.2 * value


@pytest.mark.parametrize("k", [3, 5])
def test_prdc_agrees_with_its_authors(features: tuple[Tensor, Tensor], k: int) -> None:
    from prdc import compute_prdc

    real, fake = (x[:600] for x in features)
    with contextlib.redirect_stdout(io.StringIO()):
        result = compute_prdc(real.numpy(), fake.numpy(), nearest_k=k)
    expected = cast(dict[str, float], result)
    assert prdc(real, fake, k=k)._asdict() == pytest.approx(expected, abs=1e-12)
