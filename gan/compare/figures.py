"""Draw a comparison of runs as PNG pictures for papers."""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gan.compare.frame import STATISTICS, Table, is_metric
from gan.compare.rank import Ranking, rank
from gan.compare.read import is_number, read_history
from gan.errors import UserError
from gan.metrics.catalogue import logged_name, sign
from gan.run.result import WELL_ENDED
from gan.system.files import write_bytes

MAX_CURVES = 8
"""The most curves that one picture shows."""

MAX_RANKS = 24
"""The most groups that the picture of the ranking shows."""

SIZE, DPI = (6, 3.8), 200
LABEL_WIDTH = 70
"""The most characters in a line of the name of a group."""


def write_figures(table: Table, folder: Path, metric: str) -> list[Path]:
    """Write PNG pictures of a metric and return their paths.

    `curves.png` is always written. `ranking.png` needs runs that differ in their seeds, which it
    groups. `heat.png` needs two other keys in which runs differ, and takes the first two.

    Raises:
        UserError: `folder` cannot be written to.
    """
    table = table.counted(metric)
    keys = [name for name in table.defining_keys if name != "seed"]
    figures: dict[str, Callable[[Axes], None]] = {
        "curves": lambda axes: _draw_curves(axes, table, keys, metric)
    }
    if "seed" in table.keys:
        ranking = rank(table, "seed", metric)
        figures["ranking"] = lambda axes: _draw_ranking(axes, ranking)
    if len(keys) >= 2:
        figures["heat"] = lambda axes: _draw_heat_map(axes, table, keys[0], keys[1], metric)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in figures.items():
            paths.append(folder / f"{name}.png")
            write_bytes(paths[-1], _png(draw))
    except OSError as error:
        raise UserError(f"png={folder}: cannot be written ({error.strerror or error})") from error
    return paths


def _png(draw: Callable[[Axes], None]) -> bytes:
    # The same runs give the same picture, whatever matplotlib's settings on this machine.
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_curves(axes: Axes, table: Table, keys: list[str], metric: str) -> None:
    """Draw the median and the quartiles over seeds at each step, for the best groups of runs."""
    # Columns such as best/lenet_fid have the curve of the value they come from.
    name = logged_name(metric) if is_metric(metric) else metric
    curves = []
    for group, part in table.groups(keys):
        values: dict[int, list[float]] = {}
        for number in part.index:
            for record in read_history(Path(table.runs[number].path)):
                if is_number(record.get(name)):
                    values.setdefault(record["step"], []).append(record[name])
        if values:
            steps = sorted(values)
            quartiles = np.array([np.percentile(values[step], [25, 50, 75]) for step in steps])
            most = max(map(len, values.values()))
            # Later values are of those runs alone that did not end early.
            whole = max(at for at, step in enumerate(steps) if len(values[step]) == most)
            score = sign(name) * quartiles[whole, 1]
            few = len(values[steps[-1]])
            label = _label(keys, group)
            label += f" ({few} of {most} runs at the end)" if few < most else ""
            curves.append((score, label, steps, quartiles))
    curves.sort(key=lambda curve: curve[:2])
    for _, label, steps, quartiles in curves[:MAX_CURVES]:
        first, median, third = quartiles.T
        (line,) = axes.plot(steps, median, label=label, linewidth=1.2)
        axes.fill_between(steps, first, third, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="step", ylabel=name)
    _say_left_out(axes, len(curves), MAX_CURVES)
    if curves:
        lines = sum(label.count("\n") + 1 for _, label, *_ in curves[:MAX_CURVES])
        _make_room(axes, lines)
        figure = axes.figure
        figure.legend(loc="outside lower left", fontsize=7, frameon=False)


def _draw_ranking(axes: Axes, ranking: Ranking) -> None:
    """Draw medians with their intervals, best on top. Groups with too few seeds have no
    interval."""
    frame = ranking.frame.head(MAX_RANKS)
    keys = [name for name in frame if name not in STATISTICS]
    places = np.arange(len(frame))[::-1]
    medians = frame["median"].replace([np.inf, -np.inf], np.nan)
    low, high = frame["low"].fillna(frame["median"]), frame["high"].fillna(frame["median"])
    finite = np.isfinite(pd.concat([medians, low, high])).to_numpy().reshape(3, -1).all(axis=0)
    axes.errorbar(
        medians[finite],
        places[finite],
        xerr=[(medians - low)[finite], (high - medians)[finite]],
        fmt="o",
        markersize=4,
        capsize=2,
    )
    # An arrow stands for an interval without an end.
    axes.plot(medians[~finite], places[~finite], ">", color="tab:red", markersize=5)
    labels = [
        f"{row['rank']}  {_label(keys, [row[key] for key in keys])}" for _, row in frame.iterrows()
    ]
    axes.set_yticks(places, labels, fontsize=7)
    _make_room(axes, sum(label.count("\n") for label in labels))
    _say_left_out(axes, len(ranking.frame), MAX_RANKS)
    shown = sorted({f"{100 * coverage:.3g} %" for coverage in frame["coverage"].dropna()})
    bars = f", interval that covers {' or '.join(shown)}" if shown else ""
    axes.set(xlabel=f"median {ranking.metric}{bars}")
    axes.grid(axis="x", alpha=0.3)


def _draw_heat_map(axes: Axes, table: Table, row_key: str, column_key: str, metric: str) -> None:
    """Draw medians over a grid of two keys. Cells are hatched if a run in them did not complete."""
    frame = table.frame.assign(value=table.column(metric))
    ended = frame["status"].isin(WELL_ENDED)
    frame["value"] = frame["value"].where(ended)
    frame["bad"] = (~ended).astype(int)
    shape: dict[str, Any] = {"index": row_key, "columns": column_key, "dropna": False}
    medians = frame.pivot_table(values="value", aggfunc="median", **shape)
    bad_runs = frame.pivot_table(values="bad", aggfunc="sum", **shape).reindex_like(medians)
    is_bad = bad_runs.to_numpy(dtype=float, na_value=0) > 0
    image = axes.imshow(
        medians,
        aspect="auto",
        cmap="viridis_r" if sign(metric) > 0 else "viridis",
    )
    for row, column in np.ndindex(medians.shape):
        if is_bad[row, column]:
            axes.fill_between(
                [column - 0.5, column + 0.5], row - 0.5, row + 0.5,
                facecolor="none", edgecolor="tab:red", hatch="///", linewidth=0,
            )  # fmt: skip
        if pd.notna(value := medians.iloc[row, column]):
            axes.text(
                column, row, _text(value), ha="center", va="center", fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
    axes.set_xticks(range(medians.shape[1]), list(map(_text, medians.columns)))
    axes.set_yticks(range(medians.shape[0]), list(map(_text, medians.index)))
    axes.set(xlabel=column_key, ylabel=row_key)
    axes.figure.colorbar(image, ax=axes, label=metric)


def _label(keys: Sequence[str], values: Sequence[Any]) -> str:
    """Return the name of a group of runs, on several lines if it is long."""
    pairs = zip(keys, values, strict=True)
    text = ", ".join(f"{key}={_text(value)}" for key, value in pairs) or "all runs"
    return "\n".join(textwrap.wrap(text, LABEL_WIDTH))


def _make_room(axes: Axes, lines: int) -> None:
    """Make the picture higher by so many lines of small text."""
    figure = axes.get_figure(root=True)
    assert figure
    figure.set_size_inches(SIZE[0], SIZE[1] + 0.13 * lines)


def _say_left_out(axes: Axes, count: int, shown: int) -> None:
    if count > shown:
        axes.set_title(f"the {shown} best of {count} groups", fontsize=8)


def _text(value: Any) -> str:
    if pd.isna(value):
        return "null"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # matplotlib would read a formula between two dollars.
    return text.replace("$", r"\$")
