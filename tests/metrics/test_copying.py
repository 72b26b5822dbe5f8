"""Nearest training samples, and the share of samples that are too near to them."""

import pytest
import torch
from scipy.stats import mannwhitneyu

from gan.metrics import copying
from gan.metrics.copying import data_copying, nearest


@pytest.fixture
def points() -> torch.Tensor:
    return torch.randn(900, 6, generator=torch.Generator().manual_seed(0))


def test_nearest_samples_are_those_of_the_smallest_distances(
    points: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK", 7)
    samples, training = points[:30], points[30:90]
    found = nearest(samples, training, k=3)
    distances, order = (samples[:, None] - training).norm(dim=2).sort(1)
    assert torch.equal(found.indices, order[:, :3])
    torch.testing.assert_close(found.distances, distances[:, :3])
    for wrong in (samples, training[:, :3]):
        with pytest.raises(ValueError, match="need"):
            nearest(samples, wrong, k=31)


def test_the_share_is_mann_whitneys_with_half_for_equal_pairs(points: torch.Tensor) -> None:
    fake, held_out = points[:50, 0].round(), points[50:90, 1].round()
    value, error = data_copying(fake, held_out)
    pairs = (fake[:, None] < held_out).double() + (fake[:, None] == held_out).double() / 2
    assert value == pytest.approx(float(pairs.mean()))
    statistic = mannwhitneyu(held_out, fake).statistic
    assert value == pytest.approx(statistic / (50 * 40))
    assert error == pytest.approx((91 / (12 * 50 * 40)) ** 0.5)
    with pytest.raises(ValueError, match="got 0 and 40"):
        data_copying(fake[:0], held_out)


def test_new_samples_copies_and_far_samples_are_told_apart(points: torch.Tensor) -> None:
    training, held_out, new = points[:300], points[300:600], points[600:]

    def share(fake: torch.Tensor) -> float:
        return data_copying(*(nearest(x, training).distances[:, 0] for x in (fake, held_out))).value

    error = data_copying(torch.ones(300), torch.ones(300)).standard_error
    assert abs(share(new) - 0.5) < 3 * error
    assert share(training + 0.001) == 1
    assert share(new + 9) == 0
    mixed = torch.cat([training[:100], new[:200]])
    assert share(mixed) - 0.5 > 5 * error, "a third are copies"
