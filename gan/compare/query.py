"""Choose and sort runs by expressions over their columns. An expression cannot call anything."""

import ast
import re
import warnings
from typing import Any

import pandas as pd

from gan.compare.frame import Table, elements_of, is_metric
from gan.errors import UserError
from gan.metrics.catalogue import has_direction, logged_name, sign

_WORD = re.compile(
    r"""'[^']*' | "[^"]*" | \d[\w.]*(?:(?<=e)[+-]\d+)?
    | `(?P<quoted>[^`]*)` | (?P<name>[^\W\d][\w.]*(?:/[^\W\d][\w.]*)*)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A text in quotes, a number, or what may be a column: `lr`, `optimizer.lr`, `best/lenet_fid`, or
anything in backticks."""

_RESERVED = {"and", "or", "not", "in", "True", "False"}
"""Words of an expression that are never columns."""

_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Name, ast.Constant,
    ast.List, ast.Tuple, ast.Load, ast.boolop, ast.unaryop, ast.cmpop,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.BitAnd, ast.BitOr,
)  # fmt: skip
"""Everything that an expression may consist of."""


def where(table: Table, condition: str) -> Table:
    """Return the runs for which an expression holds, such as `lr < 1e-3 and seed == 1`.

    Raises:
        UserError: The expression holds for no run, or see `matching`.
    """
    found = matching(table, condition)
    if found.frame.empty:
        raise UserError(f"where={condition}: holds for none of {len(table.frame)} runs")
    return found


def matching(table: Table, condition: str) -> Table:
    """Return the runs for which an expression holds; there may be none.

    Raises:
        UserError: The expression cannot be read, names no column, or is more than comparisons and
            arithmetic.
    """
    option = f"where={condition}"
    columns: dict[str, pd.Series] = {}

    def placeholder(name: str) -> str:
        # The name of a column need not be an identifier, so a numbered one stands for it.
        columns.setdefault(name, table.column(name))
        return f"column{list(columns).index(name)}"

    def replace(word: re.Match[str]) -> str:
        name = word["quoted"] or word["name"]
        if name is None or name in _RESERVED:
            return word[0]
        is_column = name in table.frame or name in table.ways
        if "/" in name and not is_column and not word["quoted"]:
            # This is not one column, but one divided by another.
            return "/".join(map(placeholder, name.split("/")))
        return placeholder(name)

    try:
        expression = _WORD.sub(replace, condition).strip()
        tree = ast.parse(expression, mode="eval")
    except UserError as error:
        raise UserError(f"{option}: {error}") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = "; equality is ==" if re.search(r"[^=<>!]=[^=]", condition) else ""
        raise UserError(
            f"{option}: cannot be read as a condition, such as lr<1e-3 and "
            f'status=="completed"{hint}'
        ) from None
    if not all(isinstance(node, _ALLOWED) for node in ast.walk(tree)):
        raise UserError(
            f"{option}: allowed are columns, numbers, quoted texts, comparisons, + - * / %, and, "
            "or, not, in; nothing else"
        )
    if not columns:
        raise UserError(f"{option}: names no column")
    named = {placeholder(name): values for name, values in columns.items()}
    expression = ast.unparse(_Membership(named).visit(tree))
    frame = pd.DataFrame(named, index=table.frame.index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chosen = frame.eval(expression, engine="python", local_dict={}, global_dict={})
    # Whatever pandas raises here, the reason is which values were compared with which.
    except Exception as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{option}: cannot be compared ({line})") from error
    if str(getattr(chosen, "dtype", "")) != "bool":
        raise UserError(
            f"{option}: is neither true nor false; compare with something, as in lr<1e-3"
        )
    return table.chosen(table.frame[chosen])


class _Membership(ast.NodeTransformer):
    """Puts columns of true and false in place of conditions such as `"paper" in tags`, since pandas
    knows no lists as values."""

    def __init__(self, columns: dict[str, "pd.Series[Any]"]):
        self.columns = columns

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Return a comparison, or the name of a column if it asks what a list holds."""
        match node.left, node.ops, node.comparators:
            case ast.Constant(str(text)), [ast.In() | ast.NotIn() as how], [ast.Name(name)]:
                lists = self.columns[name].map(elements_of)
                if lists.map(bool).any():
                    holds = lists.map(lambda elements: text in elements)
                    new = f"column{len(self.columns)}"
                    self.columns[new] = holds if isinstance(how, ast.In) else ~holds
                    return ast.Name(new, ast.Load())
        return node


def ordered(table: Table, by: str) -> Table:
    """Return the runs sorted by a column, best first if it is a metric.

    Args:
        by: The name of the column. `-NAME` reverses the order. A metric that was measured in
            several ways sorts the runs of each way by themselves.

    Raises:
        UserError: There is no such column.
    """
    name = by.removeprefix("-")
    ascending = (sign(name) > 0) != by.startswith("-")
    for way in reversed(list(table.ways_of(name))):
        try:
            is_measure = is_metric(way) or way == table.objective
            values = table.scores(way) if is_measure else table.column(way)
        except UserError as error:
            raise UserError(f"sort={by}: {error}") from None
        values = values.loc[table.frame.index]
        try:
            values = values.sort_values(ascending=ascending, kind="stable")
        except TypeError:
            # Values of several types, such as numbers and texts, have no other common order.
            values = values.astype(str).sort_values(ascending=ascending, kind="stable")
        table = table.with_rows(table.frame.loc[values.index])
    return table


def newest(table: Table, count: int) -> Table:
    """Return the `count` runs whose files changed last, in the order of the table."""
    chosen = table.frame["changed"].nlargest(count).index
    return table.chosen(table.frame[table.frame.index.isin(chosen)])


def ranking_metric(table: Table, sort: str | None) -> str:
    """Return the column that runs are ranked by: `ranking_measure`, if runs were measured in one
    way.

    Raises:
        UserError: The metric was measured in several ways, and none was chosen; or its package
            is not installed, so that nobody knows which way is better.
    """
    name = ranking_measure(table, sort)
    refuse_unknown_direction(table, name)
    return str(table.column(name).name) if name in table.ways else name


def refuse_unknown_direction(table: Table, name: str) -> None:
    """Refuse to say which runs are the best by an objective of a package that is not installed.

    Raises:
        UserError: nobody knows whether the measure is better high or low.
    """
    if logged_name(name) == logged_name(table.objective) and not has_direction(table.objective):
        raise UserError(
            f"{name}: is it better high or low? The package that brings this metric is not "
            "installed; sort by another column"
        )


def ranking_measure(table: Table, sort: str | None) -> str:
    """Return the name of what runs are ranked by, which may have a column for each of several ways.

    This is what they are sorted by, unless it describes a run and does not measure it; then it is
    the objective.
    """
    name = (sort or "").removeprefix("-")
    if name and name not in table.keys and name not in ("run", "status"):
        return name
    # The objective is one way of several if runs were measured differently.
    plain = [name for name, ways in table.ways.items() if table.objective in ways]
    return (plain or [table.objective])[0]
