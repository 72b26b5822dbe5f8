"""Pictures of samples, and pictures as PNG files."""

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

MARGIN = 2
"""Pixels between the images of a grid and around them."""

SIDE = 400
"""Width and height of a scatter plot in pixels."""


def grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Return uint8 images (n, channels, height, width) as one (channels, height, width).

    The images follow one another row by row.

    Args:
        columns: number of images in a row; with None the grid is about square.
    """
    # torchvision's make_grid makes grey images coloured and gives a single image no margin, and
    # importing it takes seconds.
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
    """Plot generated points in blue over real ones in grey: a uint8 image (3, SIDE, SIDE).

    The same points always give the same picture; matplotlib's settings do not matter.

    Args:
        real: points (n, 2). Points that are not finite are left out.
        fake: points (n, 2), treated in the same way.
        limit: the axes go from -limit to limit. The title says how many points of `fake` lie
            beyond, if any.
    """
    # This import takes half a second, and only few runs need it.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        canvas = FigureCanvasAgg(Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100))
        axes = canvas.figure.add_axes((0.1, 0.07, 0.87, 0.87))
        axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.tick_params(labelsize=7)
        # Real points are larger, so that they stay visible around generated points on top of them.
        for points, size, colour in ((real, 14, "0.75"), (fake, 3, "tab:blue")):
            x, y = points.double().cpu().T.numpy()
            axes.scatter(x, y, s=size, c=colour, linewidths=0)
        inside = int((fake.abs() <= limit).all(dim=1).sum())
        if inside < len(fake):
            axes.set_title(f"{len(fake) - inside} of {len(fake)} outside", fontsize=8, pad=3)
        canvas.draw()
        pixels = torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3])
    return pixels.permute(2, 0, 1).contiguous()


def to_pil(image: Tensor) -> Image.Image:
    """Convert a uint8 image (1 or 3 channels, height, width) to an image of PIL."""
    pixels = image.cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array)


def png(image: Tensor) -> bytes:
    """Return a uint8 image (1 or 3 channels, height, width) as the content of a PNG file."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()
