"""Digits stacked into colour images."""

import pytest
import torch

from gan.data import ImageData, stacked_mnist


def test_each_channel_is_a_digit_and_gives_one_decimal_place_of_the_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def split(count: int, first: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images filled with their index, whose last decimal place is the class."""
        index = torch.arange(first, first + count)
        return index.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4), index % 10

    digits = ImageData(*split(200, 0), *split(50, 200), classes=10)
    monkeypatch.setattr("gan.data.stacked.mnist", lambda root: digits)
    state = torch.get_rng_state()
    data = stacked_mnist(root="")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(stacked_mnist(root="").images, data.images)
    assert (data.images.shape, data.test_images.shape) == ((200, 3, 4, 4), (50, 3, 4, 4))
    for images, labels, low in (
        (data.images, data.labels, 0),
        (data.test_images, data.test_labels, 200),
    ):
        chosen = images[:, :, 0, 0].long()
        assert torch.equal(images, images[:, :, :1, :1].expand_as(images))
        assert chosen.min() >= low
        assert chosen.max() < low + (200 if low == 0 else 50)
        assert labels.tolist() == [int("".join(map(str, row))) for row in (chosen % 10).tolist()]
        assert len({tuple(row) for row in chosen.tolist()}) > 0.9 * len(chosen)
