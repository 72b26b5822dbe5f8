"""Choosing and ordering runs by expressions over columns, in which nothing can be called."""

import ast
import math
import re
import warnings

import pandas as pd

from gan.compare.frame import Table
from gan.errors import UserError
from gan.metrics.catalogue import METRICS, sign

_TOKEN = re.compile(
    r"""'[^']*' | "[^"]*" | \d[\w.]*(?:(?<=e)[+-]\d+)?
    | `(?P<quoted>[^`]*)` | (?P<name>[^\W\d][\w.]*(?:/[^\W\d][\w.]*)*)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A text, a number, or what may be a column: lr, optimizer.lr, best/lenet_fid, or anything in
backticks."""

_WORDS = {"and", "or", "not", "in", "True", "False"}
_ALLOWED = (
    ast.Expression,
    ast.BoolOp,
    ast.UnaryOp,
    ast.BinOp,
    ast.Compare,
    ast.Name,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Load,
    ast.boolop,
    ast.unaryop,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Mod,
    ast.BitAnd,
    ast.BitOr,
    ast.cmpop,
)


def where(table: Table, condition: str) -> Table:
    """The runs for which an expression holds, such as `lr < 1e-3 and status == "completed"`.

    Raises:
        UserError: it cannot be read, names no column, or is more than comparisons and arithmetic.
    """
    columns: dict[str, pd.Series] = {}

    def replaced(token: re.Match[str]) -> str:
        name = token["quoted"] or token["name"]
        if name is None or name in _WORDS:
            return token[0]
        if "/" in name and name not in table.frame and not token["quoted"]:
            return "/".join(_column(table, part, columns) for part in name.split("/"))
        return _column(table, name, columns)

    told = f"where={condition}"
    try:
        expression = _TOKEN.sub(replaced, condition).strip()
        tree = ast.parse(expression, mode="eval")
    except UserError as error:
        raise UserError(f"{told}: {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = "; equality is ==" if re.search(r"[^=<>!]=[^=]", condition) else ""
        raise UserError(
            f'{told}: cannot be read as a condition, such as lr<1e-3 and status=="completed"{hint}'
        ) from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise UserError(
                f"{told}: may hold columns, numbers, quoted texts, comparisons, arithmetic, and, "
                "or, not, in; nothing is called"
            )
    if not columns:
        raise UserError(f"{told}: names no column")
    named = {f"column{place}": values for place, values in enumerate(columns.values())}
    frame = pd.DataFrame(named, index=table.frame.index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = frame.eval(expression, engine="python", local_dict={}, global_dict={})
    # Whatever pandas raises here, it is for what was compared with what.
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{told}: cannot be compared ({line})") from error
    if str(getattr(chosen, "dtype", "")) != "bool":
        raise UserError(f"{told}: is neither true nor false; compare with something, as in lr<1e-3")
    found = table.frame[chosen]
    if found.empty:
        raise UserError(f"{told}: holds for none of {len(table.frame)} runs")
    return table.where(found)


def ordered(table: Table, by: str) -> Table:
    """The runs sorted by a column, best first where it is a metric; `-NAME` turns it around.

    Raises:
        UserError: there is no such column.
    """
    name = by.removeprefix("-")
    try:
        values = table.column(name)
    except UserError as error:
        raise UserError(f"sort={by}: {error}") from None
    direction = sign(name)
    if name.rpartition("/")[2] in METRICS:
        # Its last value before it diverged says nothing.
        values = values.mask(table.frame["status"] == "diverged", direction * math.inf)
    ascending = direction > 0
    if by.startswith("-"):
        ascending = not ascending
    try:
        order = values.sort_values(ascending=ascending, kind="stable").index
    except TypeError:
        order = values.astype(str).sort_values(ascending=ascending, kind="stable").index
    return table.where(table.frame.loc[order])


def newest(table: Table, count: int) -> Table:
    """The runs that wrote something last, in the order they had."""
    chosen = table.frame["changed"].nlargest(count).index
    return table.where(table.frame[table.frame.index.isin(chosen)])


def measure(table: Table, sort: str | None) -> str:
    """What runs are ranked by: the column they are sorted by, if it measures them."""
    name = (sort or table.objective).removeprefix("-")
    return table.objective if name in table.keys or name in ("run", "status") else name


def _column(table: Table, name: str, columns: dict[str, pd.Series]) -> str:
    """The identifier that stands for a column in the expression; columns may have any names."""
    place = f"column{list(columns).index(name)}" if name in columns else f"column{len(columns)}"
    columns.setdefault(name, table.column(name))
    return place
