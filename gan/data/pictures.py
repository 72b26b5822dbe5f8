"""Pictures of samples."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 2
"""Pixels between the images of a grid and around them."""

SIDE, INCHES = 800, 4
"""Width and height of a scatter plot in pixels, and in the inches that sizes of text are for."""

BINS = 50
"""Number of bars of a histogram."""

GRID_WIDTH, MIN_CELL, TITLE_HEIGHT = 800, 48, 30
"""Width of a grid of series, the least width of its cells, and height of its title, in pixels."""

AXIS_END = 1.1
"""Values up to which a cell of a grid of series reaches. Real ones reach to 1."""

MAX_NAMED = 4
"""Number of channels whose axes are named."""


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


def scatter(
    real: Tensor,
    fake: Tensor,
    limits: Sequence[tuple[float, float]],
    names: Sequence[str] | None = None,
) -> Tensor:
    """Plot generated points in blue over real ones in grey: a uint8 image (3, SIDE, SIDE).

    Args:
        real: points (n, 2). Points that are not finite are left out.
        fake: points (n, 2), treated in the same way.
        limits: the ends of both axes. The title says how many points of `fake` lie beyond, if any.
        names: names of the axes, if they have any.
    """
    with figure(SIDE, SIDE, SIDE // INCHES) as shown:
        axes = shown.add_axes(
            (0.1, 0.07, 0.87, 0.87) if names is None else (0.15, 0.12, 0.82, 0.82)
        )
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.tick_params(labelsize=7)
        if names is not None:
            axes.set_xlabel(names[0], fontsize=8)
            axes.set_ylabel(names[1], fontsize=8)
        # Real points are larger, so that they stay visible around generated points on top of them.
        for points, size, colour in ((real, 14, "0.75"), (fake, 3, "tab:blue")):
            x, y = points.double().cpu().T.numpy()
            axes.scatter(x, y, s=size, c=colour, linewidths=0)
        low, high = torch.tensor(limits, dtype=torch.float64).T
        points = fake.cpu().double()
        outside = int((~((points >= low) & (points <= high)).all(dim=1)).sum())
        if outside:
            axes.set_title(f"{outside} of {len(fake)} outside", fontsize=8, pad=3)
        return _pixels(shown)


def histogram(real: Tensor, fake: Tensor, limits: tuple[float, float], name: str) -> Tensor:
    """Plot the densities of generated numbers (blue) and real ones (grey): (3, SIDE, SIDE).

    Args:
        real: numbers (n,).
        fake: numbers (m,).
        limits: the ends of the axis. The title says how many of `fake` lie beyond, if any.
        name: name of the axis.
    """
    with figure(SIDE, SIDE, SIDE // INCHES) as shown:
        axes = shown.add_axes((0.15, 0.12, 0.82, 0.82))
        axes.tick_params(labelsize=7)
        edges = np.linspace(*limits, BINS + 1)
        for numbers, kind, colour in ((real, "stepfilled", "0.75"), (fake, "step", "tab:blue")):
            counts, _ = np.histogram(numbers.double().cpu().numpy(), edges)
            # All numbers count, those beyond the axis too.
            heights = counts / (max(len(numbers), 1) * (edges[1] - edges[0]))
            axes.stairs(heights, edges, fill=kind == "stepfilled", color=colour)
        axes.set(xlim=limits)
        axes.set_xlabel(name, fontsize=8)
        axes.set_ylabel("density", fontsize=8)
        outside = int(((fake < limits[0]) | (fake > limits[1])).sum())
        if outside:
            axes.set_title(f"{outside} of {len(fake)} outside", fontsize=8, pad=3)
        return _pixels(shown)


def lines(
    series: Tensor, ranges: Sequence[tuple[float, float]], columns: int | None = None
) -> Tensor:
    """Plot each series in a cell of a grid, its channels in different colours: a uint8 image.

    All cells have the same axes. The title gives their ends, and says how many series leave them.

    Args:
        series: (n, channels, length) with channels that should be in [-1, 1].
        ranges: for each channel, the values that -1 and 1 stand for.
        columns: number of cells in a row; with None the grid is about square.
    """
    count, channels, length = series.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    width = max(GRID_WIDTH // columns, MIN_CELL)
    height = width * 2 // 3
    values = series.detach().cpu().double().numpy()
    beyond = int((np.abs(values) > AXIS_END).any(axis=(1, 2)).sum())
    across = 0.05 + 0.9 * np.arange(length) / max(length - 1, 1)
    # A value above the end of the axis is drawn at the end.
    down = 0.5 - 0.45 * np.clip(values, -AXIS_END, AXIS_END) / AXIS_END
    with figure(width * columns, height * rows + TITLE_HEIGHT) as shown:
        from matplotlib.collections import LineCollection

        share = height * rows / (height * rows + TITLE_HEIGHT)
        axes = shown.add_axes((0, 0, 1, share), frameon=False, xticks=[], yticks=[])
        axes.set(xlim=(0, columns), ylim=(rows, 0))
        places = np.stack(np.divmod(np.arange(count), columns))
        for channel in range(channels):
            x = np.broadcast_to(across, (count, length)) + places[1][:, None]
            paths = np.stack([x, down[:, channel] + places[0][:, None]], axis=2)
            colour = f"C{channel % 10}"
            axes.add_collection(LineCollection(list(paths), colors=colour, linewidths=1))
            if length == 1:
                axes.scatter(paths[:, 0, 0], paths[:, 0, 1], s=6, c=colour, linewidths=0)
        axes.vlines(np.arange(columns + 1), 0, rows, colors="0.8", linewidths=0.5)
        axes.hlines(np.arange(rows + 1), 0, columns, colors="0.8", linewidths=0.5)
        title = _axis_text(ranges)
        if beyond:
            title += f"; {beyond} of {count} beyond"
        shown.text(0.01, 1 - TITLE_HEIGHT / 2 / (height * rows + TITLE_HEIGHT), title, va="center",
                   fontsize=11)  # fmt: skip
        return _pixels(shown)


@contextmanager
def figure(width: int, height: int, per_inch: int = 100) -> "Iterator[Figure]":
    """Yield a figure of that many pixels, which matplotlib's settings do not change."""
    # This import takes half a second, and only few runs need it.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        shown = Figure(figsize=(width / per_inch, height / per_inch), dpi=per_inch)
        FigureCanvasAgg(shown)
        yield shown


def _pixels(shown: "Figure") -> Tensor:
    canvas: Any = shown.canvas
    canvas.draw()
    pixels = torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3])
    return pixels.permute(2, 0, 1).contiguous()


def _axis_text(ranges: Sequence[tuple[float, float]]) -> str:
    """Return the ends of the axes of all channels, in the data's own units."""
    ends = []
    for low, high in ranges[:MAX_NAMED]:
        middle, half = (low + high) / 2, (high - low) / 2 * AXIS_END
        ends.append(f"{middle - half:.3g} to {middle + half:.3g}")
    more = "" if len(ranges) <= MAX_NAMED else ", ..."
    return "each cell: " + ", ".join(ends) + more


def to_pil(image: Tensor) -> Image.Image:
    """Convert a uint8 image (1 or 3 channels, height, width) to an image of PIL."""
    pixels = image.cpu()
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array)
