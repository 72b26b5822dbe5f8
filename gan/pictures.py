"""Images as files."""

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

MARGIN = 2
"""Pixels around each image of a grid."""


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """uint8 images (n, channels, height, width) as one (channels, height, width), row by row.

    Args:
        columns: images in a row; by default the grid is about square.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cells = torch.zeros(rows * columns, channels, height, width, dtype=torch.uint8)
    cells[:count] = images.cpu()
    cells = pad(cells, (0, MARGIN, 0, MARGIN))
    height, width = height + MARGIN, width + MARGIN
    table = cells.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return pad(table.reshape(channels, rows * height, columns * width), (MARGIN, 0, MARGIN, 0))


def picture(image: Tensor) -> Image.Image:
    """A uint8 image (1 or 3 channels, height, width) for PIL."""
    pixels = image.cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array)


def png(image: Tensor) -> bytes:
    """A uint8 image (1 or 3 channels, height, width) as the content of a PNG file."""
    buffer = io.BytesIO()
    picture(image).save(buffer, format="PNG")
    return buffer.getvalue()
