"""Print runs and groups of them: as a table on a terminal, or in a format for other programs."""

import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.table import Table as RichTable
from rich.text import Text

from gan.compare.frame import Table, given_keys
from gan.compare.rank import Ranking
from gan.compare.versus import Versus
from gan.config.checks import is_under
from gan.errors import UserError, nearest, printable
from gan.sweep.report import STYLES, console

MAX_WIDTH = 48
"""The most characters that a column has on a terminal. Longer texts are folded."""

MIN_WIDTH = 16
"""The fewest characters to which the names of runs are folded on a narrow terminal."""

MAX_LISTED = 6
"""The most columns without room that are named."""

GAP = 2
"""The number of spaces between columns on a terminal."""

FORMATS = ("table", "csv", "json", "markdown", "latex")
"""The output formats. "auto" stands for a table on a terminal and CSV elsewhere."""


def print_runs(table: Table, form: str, columns: Sequence[str] = ()) -> None:
    """Print runs in the order of the table.

    Args:
        form: One of FORMATS, or "auto".
        columns: The columns to print. By default CSV and JSON have all columns, and the other
            formats have the most important ones.

    Raises:
        UserError: There is no such format or column.
    """
    form = _choose_format(form)
    frame = table.frame
    needed: list[str] = []
    if columns:
        ways = [way for name in columns for way in table.ways_of(name)]
        frame = pd.DataFrame({name: table.column(name) for name in ways})
    if not columns and form not in ("csv", "json"):
        important = _important_columns(table)
        frame, needed = frame[important], _needed_columns(table, important)
    if form != "table":
        _print_as(form, frame)
        return
    _print_table(frame, "columns=A,B chooses", needed)
    counts = Counter(table.frame["status"])
    parts = [f"{number} {status}" for status, number in counts.most_common()]
    line = f"{_count(len(table.frame), 'run')}: {', '.join(parts)}"
    console().print(printable(line), soft_wrap=True)


def print_ranking(ranking: Ranking, form: str) -> None:
    """Print groups, best first, and notes on how to read their ranks.

    Args:
        form: One of FORMATS, or "auto".

    Raises:
        UserError: There is no such format.
    """
    form = _choose_format(form)
    if form in ("csv", "json"):
        _print_as(form, ranking.frame.assign(metric=ranking.metric))
        return
    frame = ranking.readable()
    if form != "table":
        _print_as(form, frame)
        return
    _print_table(frame, "format=markdown has all")
    for note in ranking.notes:
        console().print(printable(note), soft_wrap=True)


def print_versus(outcome: Versus, form: str) -> None:
    """Print the comparison of two groups: in sentences, or in numbers for other programs.

    Args:
        form: One of FORMATS, or "auto".

    Raises:
        UserError: There is no such format.
    """
    form = _choose_format(form)
    if form == "table":
        for sentence in outcome.sentences():
            console().print(printable(sentence), soft_wrap=True)
    else:
        _print_as(form, pd.DataFrame([outcome.as_dict()]))


def print_outcomes(frame: pd.DataFrame, form: str) -> None:
    """Print what became of expected numbers, a row for each.

    Args:
        form: One of FORMATS, or "auto".

    Raises:
        UserError: There is no such format.
    """
    form = _choose_format(form)
    if form == "table":
        _print_table(frame, "format=markdown has all", ["metric", "median", "expected", "outcome"])
    else:
        _print_as(form, frame)


def _choose_format(form: str) -> str:
    if form == "auto":
        return "table" if sys.stdout.isatty() else "csv"
    if form not in FORMATS:
        allowed = ", ".join(("auto", *FORMATS)) + nearest(form, FORMATS)
        raise UserError(f"format={form}: must be one of {allowed}")
    return form


def _important_columns(table: Table) -> list[str]:
    metrics = [name for name in table.metrics if table.frame[name].notna().any()]
    last = [name for name in metrics if not name.startswith("best/")]
    best = [f"best/{name}" for name in last[:1] if f"best/{name}" in metrics]
    error = ["error"] if table.frame["error"].notna().any() else []
    verdict = ["verdict"] if "verdict" in table.frame else []
    configured = _telling_keys(table)
    return ["run", *configured, "status", *verdict, *last, *best, "steps", "seconds", *error]


def _telling_keys(table: Table) -> list[str]:
    """Return the columns of keys without those that say nothing about these runs.

    A key says nothing if it has one value in all of them, or if it follows another one and no
    command line sets it.
    """
    given, told = given_keys(table.runs), set()
    telling = []
    for name in sorted(table.keys, key=lambda name: not is_under(table.keys[name], given)):
        codes = tuple(pd.factorize(table.frame[name])[0])
        is_given = is_under(table.keys[name], given)
        if len(codes) < 2 or (len({*codes}) > 1 and (is_given or codes not in told)):
            telling.append(name)
        told.add(codes)
    return [name for name in table.keys if name in telling]


def _needed_columns(table: Table, columns: Sequence[str]) -> list[str]:
    """Return those of the columns that a narrow terminal shows in any case, the most important
    first."""
    objectives = [*table.ways_of(table.objective)]
    given = given_keys(table.runs)
    times = {
        name: sum(count for text, count in given.items() if is_under(table.keys[name], [text]))
        for name in columns
        if name in table.keys
    }
    swept = sorted(filter(times.get, times), key=lambda name: -times[name])
    needed = ["run", "status", *objectives[:1], *swept, *objectives[1:]]
    # An objective that is no metric, such as a loss, is no column here.
    return [name for name in needed if name in columns]


def _print_as(form: str, frame: pd.DataFrame) -> None:
    """Print a frame in any format but "table"."""
    if form == "csv":
        print(printable(frame.to_csv(index=False), keep="\n\t"), end="")
    elif form == "json":
        rows = frame.to_dict(orient="records")
        cells = [{str(name): _json_cell(value) for name, value in row.items()} for row in rows]
        print(json.dumps(cells, indent=1))
    elif form == "markdown":
        cells = frame.map(_cell_text).map(lambda text: text.replace("|", "\\|"))
        print(cells.to_markdown(index=False, disable_numparse=True, colalign=_alignments(frame)))
    else:
        sides = "".join(side[0] for side in _alignments(frame))
        cells = frame.map(_cell_text)
        print(cells.to_latex(index=False, escape=True, column_format=sides), end="")


def _print_table(frame: pd.DataFrame, hint: str, needed: Sequence[str] = ()) -> None:
    """Print a frame for people. A narrow terminal gets fewer columns and a line that names the
    others.

    Args:
        hint: What to do about columns that have no room.
        needed: The columns that get room before all others, the most important first.
    """
    cells = frame.map(_cell_text)
    # A text that is folded can still be read, but a number that is cut off is another number.
    widths = {
        name: min(max(len(str(name)), *map(len, cells[name]), 0), MAX_WIDTH) for name in cells
    }
    screen = console()
    room = screen.width if screen.is_terminal else sum(widths.values()) + GAP * len(widths)
    first = next(iter(frame))
    too_wide = sum(widths[name] + GAP for name in needed or [first]) - GAP - room
    if too_wide > 0:
        widths[first] = max(widths[first] - too_wide, min(widths[first], MIN_WIDTH))
    shown: set[Any] = set()
    for name in [*needed, *(name for name in frame if name not in needed)]:
        if not shown or widths[name] <= room:
            shown.add(name)
            room -= widths[name] + GAP
    left_out = [str(name) for name in frame if name not in shown]
    cells = cells[[name for name in frame if name in shown]]
    table = RichTable(box=None, pad_edge=False)
    for name, side in zip(cells, _alignments(frame[list(cells)]), strict=True):
        table.add_column(printable(name), justify=side, max_width=widths[name], overflow="fold")  # type: ignore[arg-type]
    for row in cells.itertuples(index=False):
        texts = list(map(Text, row))
        for name, text in zip(cells, texts, strict=True):
            if name == "status":
                text.stylize(STYLES.get(text.plain, ""))
        table.add_row(*texts)
    console(sum(widths[name] + GAP for name in shown)).print(table)
    if left_out:
        more = f" and {len(left_out) - MAX_LISTED} more" if len(left_out) > MAX_LISTED else ""
        listed = ", ".join(left_out[:MAX_LISTED]) + more
        screen.print(f"too narrow for {listed}; {hint}", soft_wrap=True)


def _alignments(frame: pd.DataFrame) -> list[str]:
    is_numeric = pd.api.types.is_numeric_dtype
    return ["right" if is_numeric(frame[name]) else "left" for name in frame]


def _json_cell(value: Any) -> Any:
    """Return a value of a cell as JSON has it: infinities and times as texts."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _cell_text(value: Any) -> str:
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float):
        is_short = value.is_integer() and abs(value) < 1e6
        return f"{value:.0f}" if is_short else f"{value:.4g}"
    return printable(value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
