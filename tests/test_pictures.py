"""Grids and PNG files, pixel by pixel."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gan.pictures import grid, png


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(64, None, (8, 8)), (5, None, (2, 3)), (1, None, (1, 1)), (6, 6, (1, 6)), (7, 2, (4, 2))],
)
def test_a_grid_holds_each_image_in_reading_order(
    count: int, columns: int | None, shape: tuple[int, int]
) -> None:
    rows, across = shape
    images = torch.arange(1, count + 1, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 3, 4)
    table = grid(images, columns)
    assert table.shape == (1, rows * 5 + 2, across * 6 + 2)
    expected = torch.zeros_like(table)
    for index in range(count):
        row, column = divmod(index, across)
        top, left = 2 + 5 * row, 2 + 6 * column
        expected[0, top : top + 3, left : left + 4] = index + 1
    assert torch.equal(table, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (channels, 5, 7), generator=generator, dtype=torch.uint8)
    read = np.asarray(Image.open(io.BytesIO(png(image))))
    assert np.array_equal(read.reshape(5, 7, channels), image.permute(1, 2, 0).numpy())
