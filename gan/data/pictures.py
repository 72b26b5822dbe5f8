"""Samples as pictures, and pictures as files."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

MARGIN = 2
"""Pixels around each image of a grid."""

SIDE = 400
"""Pixels of a scatter plot, either way."""


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


def scatter(real: Tensor, fake: Tensor, limit: float) -> Tensor:
    """Generated points over real ones as a uint8 image (3, SIDE, SIDE), grey below colour.

    The same points give the same picture, whatever matplotlib's settings on this machine.

    Args:
        real, fake: points (n, 2); those that are not finite are left out.
        limit: the axes go from -limit to limit; how many of `fake` lie beyond is written down.
    """
    # An import of half a second, for a fraction of all runs.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        canvas = FigureCanvasAgg(Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100))
        axes = canvas.figure.add_axes((0.1, 0.07, 0.87, 0.87))
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.tick_params(labelsize=7)
        # Real points are larger, so that they show around generated ones that hit them.
        for points, size, colour in ((real, 14, "0.75"), (fake, 3, "tab:blue")):
            x, y = points.double().cpu().T.numpy()
            axes.scatter(x, y, s=size, c=colour, linewidths=0)
        inside = int((fake.abs() <= limit).all(dim=1).sum())
        if inside < len(fake):
            axes.set_title(f"{len(fake) - inside} of {len(fake)} outside", fontsize=8, pad=3)
        canvas.draw()
        pixels = torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3])
    return pixels.permute(2, 0, 1).contiguous()


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
