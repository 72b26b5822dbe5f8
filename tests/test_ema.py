"""The average of weights, and packing."""

import pytest
import torch
from torch import nn

from gan import ema
from gan.packing import pack


def test_half_of_the_average_is_older_than_the_half_life() -> None:
    kept = 1.0
    for step in range(100):
        kept *= ema.decay(6400.0, None, seen=64 * step, images=64)
    assert kept == pytest.approx(0.5)


def test_the_half_life_grows_with_the_images_seen() -> None:
    assert ema.decay(1e6, 0.05, seen=0, images=64) == pytest.approx(0.5**20)
    assert ema.decay(1e6, 0.05, seen=6400 - 64, images=64) == pytest.approx(0.5 ** (64 / 320))
    assert ema.decay(1e3, 0.05, seen=10**9, images=64) == ema.decay(1e3, None, seen=0, images=64)


def test_an_update_moves_weights_and_takes_buffers_over() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = ema.averaged(network)
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
    for held, latest in zip(average.buffers(), network.buffers(), strict=True):
        assert torch.equal(held, latest)


def test_packs_hold_neighbours_side_by_side() -> None:
    images = torch.arange(6 * 2 * 3 * 3).view(6, 2, 3, 3)
    packs = pack(images, 3)
    assert packs.shape == (2, 6, 3, 3)
    assert torch.equal(packs[1], torch.cat([images[3], images[4], images[5]]))
    points = torch.arange(8.0).view(4, 2)
    assert pack(points, 2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert torch.equal(pack(images, 1), images)
