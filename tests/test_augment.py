"""Augmentations against the same operations image by image, their gradients, and packing."""

import pytest
import torch
from torch import Tensor

from gan.augment import AUGMENTATIONS, Ada, AdaptiveProbability, augment, draw, pack
from gan.config.schema import AUGMENTATIONS as NAMES


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augmented(before: Tensor, names: list[str], seed: int = 0) -> Tensor:
    return augment(before, names, draw(before.shape, names, noise(seed)))


def images(batch: int = 40, height: int = 16, width: int = 24) -> Tensor:
    """Return images without a 0, the value that fills gaps."""
    return torch.rand(batch, 2, height, width, generator=noise(9)) + 1


def test_a_translation_shifts_each_image_and_fills_with_grey() -> None:
    before = images()
    after = augmented(before, ["translation"])
    shifts = set()
    for old, new in zip(before, after, strict=True):
        candidates = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(new, _shifted(old, down, right))
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
        assert torch.equal(cut, (image == 0).any(0)), "channels differ"
        rows, columns = cut.any(1), cut.any(0)
        assert torch.equal(cut, rows[:, None] & columns[None])
        assert (rows.sum(), columns.sum()) <= (8, 8)
        areas.add(int(cut.sum()))
    assert max(areas) == 64
    assert min(areas) < 64


def test_configurations_know_every_augmentation() -> None:
    assert tuple(AUGMENTATIONS) == NAMES


def test_colour_changes_brightness_then_saturation_then_contrast() -> None:
    before = torch.rand(3000, 3, 4, 5, generator=noise(9), dtype=torch.float64) * 2 - 1
    numbers = draw(before.shape, ["colour"], noise())
    after = augment(before, ["colour"], numbers)
    for number, (low, high) in zip(numbers, [(-0.5, 0.5), (0, 2), (0.5, 1.5)], strict=True):
        assert number.shape == (3000, 1)
        assert low <= number.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < number.max() <= high
    for index in range(50):
        brightness, saturation, contrast = (number[index].double() for number in numbers)
        image = before[index] + brightness
        grey = image.mean(0)
        image = grey + saturation * (image - grey)
        image = image.mean() + contrast * (image - image.mean())
        torch.testing.assert_close(after[index], image)


def test_gradients_of_colour_are_those_of_its_formula() -> None:
    before = images(4).double().requires_grad_()
    numbers = draw(before.shape, ["colour"], noise())
    assert torch.autograd.gradcheck(lambda image: augment(image, ["colour"], numbers), before)


def test_flip_mirrors_about_half_of_the_images() -> None:
    before = images(400)
    after = augmented(before, ["flip"])
    mirrored = [torch.equal(new, old.flip(-1)) for old, new in zip(before, after, strict=True)]
    kept = [torch.equal(new, old) for old, new in zip(before, after, strict=True)]
    assert [not one for one in mirrored] == kept
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_that_an_augmentation_leaves_alone_keep_every_bit(name: str) -> None:
    before = images()
    for nothing in (0.0, torch.zeros(())):
        numbers = draw(before.shape, [name], noise(), nothing)
        assert torch.equal(augment(before, [name], numbers), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_each_image_with_the_given_probability(name: str) -> None:
    before = images(2000, 8, 8)
    always = draw(before.shape, [name], noise())
    sometimes = draw(before.shape, [name], noise(), 0.3)
    changes = {}
    for label, numbers in (("always", always), ("sometimes", sometimes)):
        after = augment(before, [name], numbers)
        changes[label] = (after != before).flatten(1).any(1)
    share = changes["sometimes"].sum() / changes["always"].sum()
    assert abs(share - 0.3) < 0.06
    # The numbers of a changed image are those that it has at a probability of 1.
    same = torch.stack([(a == b).flatten() for a, b in zip(always, sometimes, strict=True)]).all(0)
    assert same[changes["sometimes"]].all()
    as_tensor = draw(before.shape, [name], noise(), torch.tensor(0.3))
    assert all(map(torch.equal, sometimes, as_tensor))


def test_two_augmentations_are_left_out_independently() -> None:
    before = images(2000, 8, 8)
    rows, _, flipped = draw(before.shape, ["translation", "flip"], noise(), 0.5)
    moved, mirrored = rows.flatten() != 0, flipped.flatten() == 1
    joint = (moved & mirrored).float().mean()
    assert abs(joint - moved.float().mean() * mirrored.float().mean()) < 0.03


@pytest.mark.parametrize("name", ["translation", "cutout"])
def test_gradients_reach_exactly_the_pixels_that_are_left(name: str) -> None:
    before = images(4).requires_grad_()
    after = augmented(before, [name])
    after.sum().backward()
    assert before.grad is not None
    assert set(before.grad.unique().tolist()) == {0.0, 1.0}
    assert before.grad.sum() == (after != 0).sum()


def test_augmentations_are_applied_in_order_with_numbers_from_the_given_generator() -> None:
    before = images()
    state = torch.get_rng_state()
    names = ["translation", "cutout"]
    both = augmented(before, names, 3)
    source = noise(3)
    for name in names:
        numbers = draw(before.shape, [name], source)
        before = augment(before, [name], numbers)
    assert torch.equal(both, before)
    assert torch.equal(both, augmented(images(), names, 3))
    assert not torch.equal(both, augmented(images(), names, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert augmented(before, []) is before


def test_a_pack_holds_neighbours_side_by_side() -> None:
    images = torch.arange(6 * 2 * 3 * 3).view(6, 2, 3, 3)
    packs = pack(images, 3)
    assert packs.shape == (2, 6, 3, 3)
    assert torch.equal(packs[1], torch.cat([images[3], images[4], images[5]]))
    points = torch.arange(8.0).view(4, 2)
    assert pack(points, 2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert torch.equal(pack(images, 1), images)


def test_adaptive_probability_follows_the_signs_of_real_logits() -> None:
    """A window is 4 steps, and each window moves the probability by its share of the images."""
    adaptive = AdaptiveProbability.start(torch.device("cpu"))
    ada = Ada(target=0.5, images=1000)

    def window(*signs: float) -> float:
        for sign in signs:
            adaptive.adjust(ada, batch_size=50, most=0.7)
            before = adaptive.p.item()
            adaptive.signs.add_(sign)
            adaptive.steps += 1
            assert adaptive.p == before
        # Drawing twice for a step changes nothing more.
        adaptive.adjust(ada, batch_size=50, most=0.7)
        adaptive.adjust(ada, batch_size=50, most=0.7)
        return adaptive.p.item()

    assert window(-1, 0, 0, 0) == 0
    assert window(1, 1, 0.2, 0) == pytest.approx(0.2)
    assert window(0.5, 0.5, 0.5, 0.5) == pytest.approx(0.2)
    assert window(1, 1, 1, 1) == pytest.approx(0.4)
    assert window(1, 0.4, 0.3, 0.2) == pytest.approx(0.2)
    for expected in (0.4, 0.6, 0.7, 0.7):
        assert window(1, 1, 1, 1) == pytest.approx(expected)
    assert window(0, 0, 0, 0) == pytest.approx(0.5)
