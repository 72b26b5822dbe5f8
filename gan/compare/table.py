"""Tables of runs and of groups of them, for people and for programs."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from gan.compare.frame import Table
from gan.compare.rank import FEW, Ranking
from gan.errors import UserError, nearest
from gan.sweep.report import STYLES, console

WIDEST = 48
"""Characters of a column on a terminal."""

FORMATS = ("table", "csv", "json", "markdown", "latex")


def print_runs(table: Table, form: str, columns: Sequence[str] = ()) -> None:
    """Print runs in the order they have.

    Args:
        columns: which ones; by default all for programs, and the most important for people.

    Raises:
        UserError: there is no such format or column.
    """
    form = _form(form)
    frame = pd.DataFrame({name: table.column(name) for name in columns}) if columns else table.frame
    if form in ("csv", "json"):
        _write(frame, form)
        return
    shown = frame if columns else frame[_important(table)]
    if form != "table":
        _write(shown, form)
        return
    _print(shown, kept=None if columns else len(table.keys) + 3)
    counts = Counter(table.frame["status"])
    parts = [f"{number} {status}" for status, number in counts.most_common()]
    console().print(f"{_count(len(table.frame), 'run')}: {', '.join(parts)}", soft_wrap=True)


def print_ranking(ranking: Ranking, form: str) -> None:
    """Print groups, best first, and what their ranks do not say.

    Raises:
        UserError: there is no such format.
    """
    form = _form(form)
    if form in ("csv", "json"):
        _write(ranking.frame.assign(metric=ranking.metric), form)
        return
    frame = ranking.frame.drop(columns=["low", "high"])
    ends = zip(ranking.frame["low"], ranking.frame["high"], strict=True)
    frame["95% interval"] = [
        "" if pd.isna(low) else f"{low:.4g} to {high:.4g}" for low, high in ends
    ]
    frame = frame.rename(columns={"median": f"median {ranking.metric}"})
    if not frame["missing"].any():
        frame = frame.drop(columns="missing")
    if form != "table":
        _write(frame, form)
        return
    _print(frame)
    if any(text.endswith("=") for text in frame["rank"]):
        console().print(
            "=: its interval meets another's, and cannot be told from it", soft_wrap=True
        )
    if ranking.few:
        over = " and ".join(ranking.over)
        console().print(
            f"{ranking.few} of {_count(len(frame), 'group')} not ranked: too few values of {over}, "
            f"fewer than {FEW} finished runs",
            soft_wrap=True,
        )


def _form(form: str) -> str:
    if form == "auto":
        return "table" if sys.stdout.isatty() else "csv"
    if form not in FORMATS:
        allowed = ", ".join(("auto", *FORMATS)) + nearest(form, FORMATS)
        raise UserError(f"format={form}: must be one of {allowed}")
    return form


def _important(table: Table) -> list[str]:
    metrics = [name for name in table.metrics if table.frame[name].notna().any()]
    last = [name for name in metrics if not name.startswith("best/")]
    best = [f"best/{name}" for name in last[:1] if f"best/{name}" in metrics]
    error = ["error"] if table.frame["error"].notna().any() else []
    return ["run", *table.keys, "status", *last, *best, "steps", "seconds", *error]


def _write(frame: pd.DataFrame, form: str) -> None:
    if form == "csv":
        print(frame.to_csv(index=False), end="")
    elif form == "json":
        print(frame.to_json(orient="records", date_format="iso", indent=1))
    elif form == "markdown":
        cells = frame.map(_cell).map(lambda text: text.replace("|", "\\|"))
        print(cells.to_markdown(index=False, disable_numparse=True, colalign=_sides(frame)))
    else:
        sides = "".join(side[0] for side in _sides(frame))
        print(frame.map(_cell).to_latex(index=False, escape=True, column_format=sides), end="")


def _print(frame: pd.DataFrame, kept: int | None = None) -> None:
    """Print a frame; on a narrow terminal the last columns are left out, and told.

    Args:
        kept: how many columns are more important than the first one.
    """
    cells = frame.map(_cell)
    widths = {
        n: max(len(str(n)), *map(len, cells[n])) if len(cells) else len(str(n)) for n in cells
    }
    screen = console()
    # A name that folds can still be read, a number that is cut is another number.
    widths = {name: min(width, WIDEST) for name, width in widths.items()}
    order = [*list(frame)[1:kept], *list(frame)[:1], *list(frame)[kept:]] if kept else list(frame)
    shown: list[Any] = []
    room = screen.width if screen.is_terminal else sum(widths.values()) + len(widths)
    for name in order:
        room -= widths[name] + 1
        if room < -1 and shown:
            break
        shown.append(name)
    left_out = [str(name) for name in frame if name not in shown]
    table = RichTable(box=None, pad_edge=False)
    shown = [name for name in frame if name in shown]
    for name, side in zip(shown, _sides(frame[shown]), strict=True):
        table.add_column(str(name), justify=side, max_width=WIDEST, overflow="fold")  # type: ignore[arg-type]
    for row in cells[shown].itertuples(index=False):
        texts = [Text(cell) for cell in row]
        for text, name in zip(texts, shown, strict=True):
            if name == "status":
                text.stylize(STYLES.get(text.plain, ""))
        table.add_row(*texts)
    console(sum(widths.values()) + len(widths)).print(table)
    if left_out:
        screen.print(f"too narrow for {', '.join(left_out)}; columns=A,B chooses", soft_wrap=True)


def _sides(frame: pd.DataFrame) -> list[str]:
    numeric = pd.api.types.is_numeric_dtype
    return ["right" if numeric(frame[name]) else "left" for name in frame]


def _cell(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) < 1e6 else f"{value:.4g}"
    # What a run is called must not move the cursor or change colours.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
