"""The Fréchet distance, where its closed form is known."""

import pytest
import torch
from torch import Tensor

from gan.metrics.frechet import frechet_distance, gaussian_distance, moments


def whitened(seed: int, count: int = 60, width: int = 6) -> Tensor:
    """Return samples (count, width) with exactly mean 0 and the identity as their covariance."""
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).double()
    x -= x.mean(0)
    white: Tensor = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(x.T)).T, x, upper=True, left=False
    )
    return white


def rotation(seed: int, width: int = 6) -> Tensor:
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(seed)).double()
    orthogonal: Tensor = torch.linalg.qr(noise)[0]
    return orthogonal


def test_equal_sets_have_no_distance() -> None:
    x = whitened(0) @ rotation(1) * 3 + 2
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(2))]
    assert frechet_distance(x, shuffled) == pytest.approx(0, abs=1e-10)


def test_shift_counts_with_its_square() -> None:
    x, shift = whitened(0), torch.arange(6.0).double()
    assert frechet_distance(x, x + shift) == pytest.approx(0 + 1 + 4 + 9 + 16 + 25)


def test_scale_counts_with_the_square_of_its_difference() -> None:
    """With standard deviations a and b of each coordinate it is the sum of (a - b)^2."""
    a, b = torch.tensor([1.0, 2, 3, 1, 0.5, 4]), torch.tensor([2.0, 2, 1, 1, 0.5, 1])
    real, fake = whitened(0) * a, whitened(1, count=90) * b
    assert frechet_distance(real, fake) == pytest.approx(1 + 0 + 4 + 0 + 0 + 9)


def test_distance_between_correlated_coordinates() -> None:
    """Two covariances with the same eigenvectors differ by the roots of their eigenvalues. The
    covariances A = I and B = M M have the shared root M."""
    basis, values = rotation(3), torch.tensor([4.0, 1, 9, 0.25, 1, 2]).double()
    root = basis @ values.diag() @ basis.T
    real, fake = whitened(0), whitened(1) @ root
    assert frechet_distance(real, fake) == pytest.approx((1 - values).square().sum().item())
    # tr sqrt(A B) for 2 x 2: sqrt(tr AB + 2 sqrt(det AB)), by Cayley and Hamilton.
    a, b = torch.tensor([[2.0, 1], [1, 3]]).double(), torch.tensor([[1.0, -0.5], [-0.5, 4]])
    b = b.double()
    real = whitened(0, width=2) @ torch.linalg.cholesky(a).T
    fake = whitened(1, width=2) @ torch.linalg.cholesky(b).T
    shared = ((a @ b).trace() + 2 * (a @ b).det().sqrt()).sqrt()
    expected = (a.trace() + b.trace() - 2 * shared).item()
    assert frechet_distance(real, fake) == pytest.approx(expected)


def test_distance_is_symmetric_and_ignores_a_rotation_of_both_sets() -> None:
    real, fake = whitened(0) * 2, whitened(1, count=80) @ rotation(1) + 1
    distance = frechet_distance(real, fake)
    assert frechet_distance(fake, real) == pytest.approx(distance)
    rotate = rotation(2)
    assert frechet_distance(real @ rotate, fake @ rotate) == pytest.approx(distance)


def test_covariances_may_be_singular() -> None:
    """Some features are always 0, as after a ReLU, and the generator may have collapsed."""
    real = torch.cat([whitened(0), torch.zeros(60, 2)], dim=1)
    collapsed = torch.ones(60, 8).double()
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(real, collapsed) == pytest.approx(8 + 6)


def test_float32_features_are_computed_in_float64() -> None:
    real, fake = (whitened(seed).float() * 0.01 + 100 for seed in (0, 1))
    distance = frechet_distance(real, fake)
    assert distance == pytest.approx(frechet_distance(real.double(), fake.double()), abs=0)


def test_distance_from_moments_equals_distance_from_features() -> None:
    real, fake = whitened(0) * 2 + 1, whitened(1, count=80) @ rotation(1)
    distance = gaussian_distance(moments(real), moments(fake))
    assert distance == frechet_distance(real, fake) > 0
    assert moments(real).mean.tolist() == pytest.approx([1] * 6)
    assert torch.allclose(moments(real.float()).covariance, 4 * torch.eye(6).double(), atol=1e-5)
    assert moments(real.float()).mean.dtype == torch.float64


def test_one_feature_is_enough() -> None:
    x = whitened(0)[:, :1]
    assert frechet_distance(x, 3 * x + 2) == pytest.approx(2**2 + (3 - 1) ** 2)


def test_moments_that_cannot_be_computed_or_compared_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n above width, got \(6, 6\)"):
        moments(whitened(0)[:6])
    with pytest.raises(ValueError, match=r"n above width, got \(6,\)"):
        moments(whitened(0)[0])
    with pytest.raises(ValueError, match="features hold NaN or infinity"):
        moments(whitened(0) / 0)
    with pytest.raises(ValueError, match="moments of one width, got 6 and 5"):
        gaussian_distance(moments(whitened(0)), moments(whitened(0, width=5)))


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (whitened(0)[:6], whitened(1), "needs more than 6 samples, got 6 and 60"),
        (whitened(0), whitened(1)[:6], "needs more than 6 samples, got 60 and 6"),
        (whitened(0), whitened(1, width=5), "one width"),
        (whitened(0)[0], whitened(1), "one width"),
        (whitened(0).log(), whitened(1), "real features hold NaN"),
        (whitened(0), whitened(1) / 0, "fake features hold NaN or infinity"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(real: Tensor, fake: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(real, fake)
