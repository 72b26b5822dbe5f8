"""Augmentations against the same done image by image, and their gradients."""

import pytest
import torch
from torch import Tensor

from gan.augment import AUGMENTATIONS, augment, draw


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmented(before: Tensor, names: list[str], seed: int = 0) -> Tensor:
    return augment(before, names, draw(before.shape, names, noise(seed)))


def images(batch: int = 40, height: int = 16, width: int = 24) -> Tensor:
    """No pixel is 0, so that what was filled in can be told."""
    return torch.rand(batch, 2, height, width, generator=noise(9)) + 1


def test_a_translation_shifts_each_image_and_fills_with_grey() -> None:
    before = images()
    after = augmented(before, ["translation"])
    shifts = set()
    for was, now in zip(before, after, strict=True):
        candidates = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(now, _shifted(was, down, right))
        ]
        assert len(candidates) == 1
        shifts.add(candidates[0])
    assert len(shifts) > 15
    assert {down for down, _ in shifts} == set(range(-2, 3))
    assert {right for _, right in shifts} == set(range(-3, 4))


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    _, height, width = image.shape
    shifted = torch.zeros_like(image)
    rows = range(max(0, -down), min(height, height - down))
    columns = range(max(0, -right), min(width, width - right))
    part = image[
        :, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right
    ]
    shifted[:, rows.start : rows.stop, columns.start : columns.stop] = part
    return shifted


@pytest.mark.parametrize("size", [16, 15])
def test_a_cutout_is_a_square_that_may_reach_over_the_edge(size: int) -> None:
    after = augmented(images(200, size, size), ["cutout"])
    areas = set()
    for image in after:
        cut = (image == 0).all(0)
        assert torch.equal(cut, (image == 0).any(0)), "all channels alike"
        rows, columns = cut.any(1), cut.any(0)
        assert torch.equal(cut, rows[:, None] & columns[None])
        assert (rows.sum(), columns.sum()) <= (8, 8)
        areas.add(int(cut.sum()))
    assert max(areas) == 64
    assert min(areas) < 64


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_pass_through_to_what_is_left(name: str) -> None:
    before = images(4).requires_grad_()
    after = augmented(before, [name])
    after.sum().backward()
    assert before.grad is not None
    assert set(before.grad.unique().tolist()) == {0.0, 1.0}
    assert before.grad.sum() == (after != 0).sum()


def test_they_are_applied_in_order_from_the_given_generator() -> None:
    before = images()
    state = torch.get_rng_state()
    names = ["translation", "cutout"]
    both = augmented(before, names, 3)
    source = noise(3)
    for name in names:
        drawn = draw(before.shape, [name], source)
        before = augment(before, [name], drawn)
    assert torch.equal(both, before)
    assert torch.equal(both, augmented(images(), names, 3))
    assert not torch.equal(both, augmented(images(), names, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert augmented(before, []) is before
