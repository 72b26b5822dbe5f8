"""The hash of a data set's content: equal for equal data, and another one for any change."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_data import Endless, Pairs
from PIL import Image

from gan.data import (
    ImageData,
    Mixture,
    content_hash,
    digits,
    grid25,
    image_data,
    image_folder,
    ring8,
    series_data,
    spiral,
    vector_data,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 5, 4), dtype=np.uint8)
VALUES = np.random.default_rng(0).normal(size=(40, 6))
LABELS = np.arange(40) % 3


def test_equal_data_have_equal_hashes() -> None:
    assert image_data(PIXELS, LABELS).content_hash == image_data(PIXELS, LABELS).content_hash
    assert vector_data(VALUES).content_hash == vector_data(VALUES).content_hash
    assert digits().content_hash == digits().content_hash
    assert ring8().content_hash == ring8().content_hash


def test_any_change_of_the_data_changes_the_hash() -> None:
    other_pixels, other_values = PIXELS.copy(), VALUES.copy()
    other_pixels[3, 2, 1] ^= 1
    other_values[3, 2] += 1e-9
    hashes = [
        image_data(PIXELS).content_hash,
        image_data(255 - PIXELS).content_hash,
        image_data(other_pixels).content_hash,
        image_data(PIXELS, LABELS).content_hash,
        image_data(PIXELS, LABELS[::-1].copy()).content_hash,
        image_data(PIXELS[:39]).content_hash,
        image_data(PIXELS[::-1]).content_hash,
        image_data(PIXELS.reshape(40, 4, 5)).content_hash,
        image_data(PIXELS, test=PIXELS).content_hash,
        image_data(PIXELS, test=255 - PIXELS).content_hash,
        vector_data(VALUES).content_hash,
        vector_data(other_values).content_hash,
        vector_data(VALUES, LABELS).content_hash,
        # Scaled in another way, the same numbers give another training.
        series_data(VALUES).content_hash,
        series_data(VALUES.reshape(40, 2, 3)).content_hash,
        ring8().content_hash,
        grid25().content_hash,
        spiral().content_hash,
        Mixture(ring8().centers, std=0.02).content_hash,
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_split_is_part_of_the_hash() -> None:
    data = image_data(PIXELS)
    moved = ImageData(
        torch.cat([data.images, data.test_images[:1]]),
        torch.cat([data.labels, data.test_labels[:1]]),
        data.test_images[1:],
        data.test_labels[1:],
        classes=1,
    )
    assert moved.content_hash != data.content_hash


def test_a_hash_does_not_depend_on_where_the_tensors_are() -> None:
    data = image_data(PIXELS, LABELS)
    assert replace(data, target_device=torch.device("cpu")).content_hash == data.content_hash
    assert data.to(torch.device("cpu")).content_hash == data.content_hash
    known = replace(data, digest="another")
    assert known.content_hash != data.content_hash


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_has_the_hash_of_its_pixels_in_memory_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    for number, pixels in enumerate(PIXELS):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    if not in_memory:
        monkeypatch.setattr("gan.data.mapped.MAX_BYTES_IN_MEMORY", 0)

    def load(folder: Path, root: str = "cache") -> ImageData:
        cache = str(tmp_path / root)
        return image_folder(root=cache, folder=str(folder), image_size=None, channels=1)

    data = load(tmp_path / "photos")
    assert (data.reader is None) == in_memory
    plain = replace(
        data, samples=data.images.clone(), test_samples=data.test_images.clone(), digest=None
    )
    assert data.content_hash == plain.content_hash
    assert load(tmp_path / "photos").content_hash == data.content_hash
    # Another place for the folder and for its cache changes nothing.
    (tmp_path / "photos").rename(tmp_path / "moved")
    moved = load(tmp_path / "moved", "other cache")
    assert moved.content_hash == data.content_hash
    Image.fromarray(255 - PIXELS[0]).save(tmp_path / "moved" / "a" / "00.png")
    assert load(tmp_path / "moved", "other cache").content_hash != data.content_hash


def test_a_data_set_of_other_people_has_the_hash_of_its_real_samples() -> None:
    points = torch.from_numpy(VALUES).float()[:, :3]
    first = content_hash(Pairs(points))
    assert first is not None
    assert content_hash(Pairs(points.clone())) == first
    assert content_hash(Pairs(-points)) != first


def test_a_data_set_without_end_that_names_no_hash_has_none() -> None:
    assert content_hash(Endless(torch.zeros(4, 3))) is None
