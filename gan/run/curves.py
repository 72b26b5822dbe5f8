"""The curves of one run as a figure."""

import math
from typing import TYPE_CHECKING

from gan.metrics.catalogue import METRICS, direction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PANELS = {
    "losses": {"loss/discriminator": "D", "loss/generator": "G"},
    "mean output of D": {"prob/real": "D(x)", "prob/fake": "D(G(z))"},
}
"""The titles of the first panels, and the curves in each with their labels."""
COLUMNS = 3
"""Panels beside one another."""
FEW = 20
"""The number of values from which a curve is a line without points."""


def draw_curves(history: "pd.DataFrame") -> "Figure":
    """Return a figure of the losses, of D(x) and D(G(z)), and of each metric over the steps.

    Args:
        history: a row for each record, with the columns of metrics.jsonl.
    """
    from matplotlib import pyplot

    panels = dict(PANELS)
    for name in METRICS:
        if name in history:
            panels[f"{name}, {direction(name).adjective} is better"] = {name: ""}
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    shown, grid = pyplot.subplots(
        rows, columns, figsize=(3.6 * columns, 2.8 * rows), layout="constrained"
    )
    # A notebook would show it twice: at the end of the cell, and as the value of its last line.
    pyplot.close(shown)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (title, curves) in zip(grid.flat, panels.items(), strict=False):
        for name, label in curves.items():
            if name in history:
                values = history.dropna(subset=name)
                # Few values would be hard to see on a line, and one has none.
                marker = "." if len(values) < FEW else ""
                axes.plot(values["step"], values[name], linewidth=1, marker=marker, label=label)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if len(axes.lines) > 1:
            axes.legend(fontsize="small")
    grid.flat[1].set_ylim(-0.02, 1.02)
    return shown
