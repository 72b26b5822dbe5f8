"""Still pictures of a comparison, fit for a paper."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gan.compare.frame import TOLD, Table
from gan.compare.rank import Ranking, rank
from gan.compare.read import read_history
from gan.errors import UserError
from gan.files import write_bytes
from gan.metrics.catalogue import sign

MOST = 8
"""Lines of a figure, and three times as many rows."""

DPI = 200


def write_figures(table: Table, folder: Path, metric: str) -> list[Path]:
    """Write `curves.png` and, where runs allow it, `ranking.png` (of groups that differ in their
    seeds alone) and `heat.png` (over the first two keys in which runs differ).

    Returns:
        What was written.

    Raises:
        UserError: `folder` cannot be written to.
    """
    drawn: dict[str, Callable[[Axes], None]] = {
        "curves": lambda axes: _curves(axes, table, metric),
    }
    if "seed" in table.keys:
        ranking = rank(table, "seed", metric)
        drawn["ranking"] = lambda axes: _ranking(axes, ranking)
    keys = [name for name in table.keys if name not in (*TOLD, "seed")][:2]
    if len(keys) == 2:
        drawn["heat"] = lambda axes: _heat(axes, table, keys, metric)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, draw in drawn.items():
            written.append(folder / f"{name}.png")
            write_bytes(written[-1], _png(draw))
    except OSError as error:
        raise UserError(f"png={folder}: cannot be written ({error.strerror or error})") from error
    return written


def _png(draw: Callable[[Axes], None]) -> bytes:
    """The same picture whatever matplotlib's settings on this machine."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=(6, 3.8), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _curves(axes: Axes, table: Table, metric: str) -> None:
    """Medians and quartiles over seeds at each step, of the best groups."""
    keys = [name for name in table.keys if name not in (*TOLD, "seed")]
    leaf = metric.rpartition("/")[2]
    if keys:
        grouped = table.frame.groupby(keys, dropna=False, sort=False).groups.items()
        groups = [(key if isinstance(key, tuple) else (key,), index) for key, index in grouped]
    else:
        groups = [((), table.frame.index)]
    lines = []
    for key, index in groups:
        values: dict[int, list[float]] = {}
        for number in index:
            for record in read_history(Path(table.runs[number].path)):
                if leaf in record:
                    values.setdefault(record["step"], []).append(record[leaf])
        if values:
            label = ", ".join(f"{k}={_short(v)}" for k, v in zip(keys, key, strict=True))
            steps = sorted(values)
            parts = np.array([np.percentile(values[step], [25, 50, 75]) for step in steps])
            lines.append((sign(leaf) * parts[-1, 1], label or "all runs", steps, parts))
    lines.sort(key=lambda line: (line[0], line[1]))
    for _, label, steps, parts in lines[:MOST]:
        (line,) = axes.plot(steps, parts[:, 1], label=_plain(label), linewidth=1.2)
        axes.fill_between(
            steps, parts[:, 0], parts[:, 2], color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set(xlabel="step", ylabel=leaf)
    if lines:
        axes.legend(fontsize=7, frameon=False)


def _ranking(axes: Axes, ranking: Ranking) -> None:
    """Medians with their intervals, best on top; without one where seeds are too few."""
    frame = ranking.frame.head(3 * MOST)
    keys = [name for name in frame if name not in _STATISTICS]
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
    # An interval without an end has an arrow for it.
    axes.plot(medians[~finite], places[~finite], ">", color="tab:red", markersize=5)
    labels = [
        f"{row['rank']}  " + ", ".join(f"{key}={_short(row[key])}" for key in keys)
        for _, row in frame.iterrows()
    ]
    axes.set_yticks(places, [_plain(label) for label in labels], fontsize=7)
    axes.set(xlabel=f"median {ranking.metric}, 95 % interval")
    axes.grid(axis="x", alpha=0.3)


def _heat(axes: Axes, table: Table, keys: list[str], metric: str) -> None:
    """Medians over a grid of two keys; cells with runs that did not complete are hatched."""
    frame = table.frame.assign(value=table.column(metric))
    frame["value"] = frame["value"].where(frame["status"].isin(["completed", "pruned"]))
    frame["bad"] = frame["status"].isin(["diverged", "pruned", "failed"]).astype(int)
    shape: dict[str, Any] = {"index": keys[0], "columns": keys[1], "dropna": False}
    middle = frame.pivot_table(values="value", aggfunc="median", **shape)
    counts = frame.pivot_table(values="bad", aggfunc="sum", **shape).reindex_like(middle)
    bad = counts.to_numpy(dtype=float, na_value=0) > 0
    image = axes.imshow(
        middle,
        aspect="auto",
        cmap="viridis_r" if sign(metric) > 0 else "viridis",
    )
    for row, column in np.ndindex(middle.shape):
        if bad[row, column]:
            axes.fill_between(
                [column - 0.5, column + 0.5], row - 0.5, row + 0.5,
                facecolor="none", edgecolor="tab:red", hatch="///", linewidth=0,
            )  # fmt: skip
        if pd.notna(value := middle.iloc[row, column]):
            axes.text(
                column, row, _short(value), ha="center", va="center", fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )  # fmt: skip
    axes.set_xticks(range(middle.shape[1]), [_plain(_short(v)) for v in middle.columns])
    axes.set_yticks(range(middle.shape[0]), [_plain(_short(v)) for v in middle.index])
    axes.set(xlabel=keys[1], ylabel=keys[0])
    axes.figure.colorbar(image, ax=axes, label=metric)


_STATISTICS = ("rank", "n", "missing", "median", "IQR", "low", "high")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """As it is, where matplotlib would read mathematics."""
    return text.replace("$", r"\$")
