"""Conditions that the points of a sweep must meet: the key `sweep.where`."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from simpleeval import EvalWithCompoundTypes, InvalidExpression

from gan.config.checks import ABSENT_IF, flatten, plain
from gan.config.schema import GLOBAL_GROUPS
from gan.errors import UserError, nearest
from gan.sweep.composer import Composer
from gan.sweep.space import Point

FUNCTIONS = {"min": min, "max": max, "abs": abs, "len": len}
"""Functions that a condition may call."""
CONSTANTS = {"true": True, "false": False, "null": None}
"""Values by the names that they have in YAML."""
PATIENCE = 1000
"""Points in a row that do not meet a condition, after which no further ones are drawn."""


class Where:
    """A condition on the configuration of a point.

    It is an expression of Python over the keys of the configuration, with numbers, texts, lists,
    arithmetic, comparisons, `and`, `or`, `not`, `in` and FUNCTIONS. The name of a config group
    stands for the chosen option, or null if there is none:
    `penalty == 'r1' or model.hidden_dim * trainer.batch_size < 9000`.

    Args:
        text: the expression.

    Raises:
        UserError: it is no expression.
    """

    def __init__(self, text: str):
        self.text = text
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise UserError(
                f"sweep.where={text}: cannot be read ({error.msg}); write a condition such as "
                "model.hidden_dim * trainer.batch_size <= 65536"
            ) from None
        self._tree = _DottedNames().visit(tree)

    def meets(self, composer: Composer, point: Point) -> bool:
        """Return whether a point meets the condition.

        Raises:
            UserError: the configuration of the point is wrong, or lacks a key of the condition, or
                the value is not true or false.
        """
        config = plain(composer.compose(point))
        names = _Names(config, composer.choices(point))
        shown = " ".join(point)
        evaluator = EvalWithCompoundTypes(functions=FUNCTIONS, names=names)
        try:
            value = evaluator.eval(self.text, previously_parsed=self._tree)
        except UserError as error:
            raise UserError(f"sweep.where={self.text}: {error}, at {shown}") from None
        except (InvalidExpression, ArithmeticError, TypeError, ValueError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"sweep.where={self.text}: cannot be computed ({reason}), at {shown}"
            ) from None
        if not isinstance(value, bool):
            raise UserError(
                f"sweep.where={self.text}: gives {value} and neither true nor false, at {shown}"
            )
        return value

    def chosen(
        self, composer: Composer, points: Iterable[Point], limit: int | None = None
    ) -> Iterator[Point]:
        """Yield the points that meet the condition.

        Args:
            limit: the number of points to yield; None yields all.

        Raises:
            UserError: no point meets it, or PATIENCE points in a row do not.
        """
        found, missed = 0, 0
        for point in points:
            if found == limit:
                return
            if self.meets(composer, point):
                found, missed = found + 1, 0
                yield point
            else:
                missed += 1
            if limit is not None and missed == PATIENCE:
                after = f", after {found} that did" if found else ""
                raise UserError(
                    f"sweep.where={self.text}: {PATIENCE} points in a row did not meet it{after}; "
                    "widen the space or the condition"
                )
        if not found:
            raise UserError(
                f"sweep.where={self.text}: none of {missed} points meets it; widen the space or "
                "the condition"
            )


class _DottedNames(ast.NodeTransformer):
    """Makes one name of the attributes in an expression, such as trainer.batch_size."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        value = self.visit(node.value)
        if isinstance(value, ast.Name):
            return ast.Name(f"{value.id}.{node.attr}", ast.Load())
        return ast.Attribute(value, node.attr, node.ctx)


class _Names(Mapping[str, Any]):
    """The values of names in a condition at one point."""

    def __init__(self, config: dict[str, Any], choices: Mapping[str, str]):
        # A group from which nothing was chosen is null.
        unchosen = dict.fromkeys([*GLOBAL_GROUPS, "protocol"])
        self._values = CONSTANTS | ABSENT_IF | unchosen | flatten(config) | dict(choices)

    def __getitem__(self, name: str) -> Any:
        if name in FUNCTIONS:
            raise KeyError(name)
        if name not in self._values:
            hint = nearest(name, self._values) or "; a text needs quotes"
            raise UserError(f"there is no key '{name}'{hint}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
