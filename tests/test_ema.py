"""The average of weights."""

import pytest
import torch
from torch import nn

from gan import ema


def test_half_of_the_average_is_older_than_the_half_life() -> None:
    share = 1.0
    for step in range(100):
        share *= ema.decay(6400.0, None, images_seen=64 * step, new_images=64)
    assert share == pytest.approx(0.5)


def test_the_half_life_grows_with_the_images_seen() -> None:
    assert ema.decay(1e6, 0.05, images_seen=0, new_images=64) == pytest.approx(0.5**20)
    assert ema.decay(1e6, 0.05, images_seen=6400 - 64, new_images=64) == pytest.approx(
        0.5 ** (64 / 320)
    )
    assert ema.decay(1e3, 0.05, images_seen=10**9, new_images=64) == ema.decay(
        1e3, None, images_seen=0, new_images=64
    )


def test_an_update_moves_weights_and_copies_buffers() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = ema.start_average(network)
    assert not any(weight.requires_grad for weight in average.parameters())
    assert all(weight.requires_grad for weight in network.parameters())
    before = [weight.clone() for weight in average.parameters()]
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(1.0)
    network(torch.randn(8, 3))
    ema.update(average, network, 0.75)
    for was, now in zip(before, average.parameters(), strict=True):
        torch.testing.assert_close(now, was + 0.25)
    for buffer, latest in zip(average.buffers(), network.buffers(), strict=True):
        assert torch.equal(buffer, latest)
