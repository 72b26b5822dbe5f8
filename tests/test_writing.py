"""Tests of the code's own words: public names are documented in sentences that begin well."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gan"
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = re.compile(r"(What|Of|How|Whether|Where|Who|Those|Its|That)\b")
"""First words of docstrings that lack their subject or their verb."""
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented(tree: ast.Module) -> Iterator[tuple[str, Documented]]:
    """Yield every module, class, function and method, with its name."""
    yield "module", tree
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def public(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[str, Documented]]:
    """Yield public classes and functions, and the public methods of public classes."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def is_overload(node: Documented) -> bool:
    """Return whether a function only gives types to the one of its name that follows."""
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(decorator, ast.Name) and decorator.id == "overload"
        for decorator in node.decorator_list
    )


def is_forward(node: Documented) -> bool:
    """Return whether a method is nn.Module's forward, which the class documents."""
    return isinstance(node, ast.FunctionDef) and node.name == "forward"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    wrong = []
    for name, node in documented(ast.parse(file.read_text())):
        first_line = (ast.get_docstring(node) or "").partition("\n")[0]
        if FORBIDDEN.match(first_line) or first_line.startswith(("Args:", "Raises:", "Returns:")):
            wrong.append(f"{name}: {first_line}")
    assert not wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_public_classes_and_functions_are_documented(file: Path) -> None:
    missing = [
        name
        for name, node in public(ast.parse(file.read_text()))
        if not ast.get_docstring(node) and not is_forward(node) and not is_overload(node)
    ]
    assert not missing


def test_strings_below_attributes_begin_well() -> None:
    wrong = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Module | ast.ClassDef):
                continue
            for before, after in zip(node.body, node.body[1:], strict=False):
                text = after.value if isinstance(after, ast.Expr) else None
                if not isinstance(before, ast.Assign | ast.AnnAssign):
                    continue
                if isinstance(text, ast.Constant) and FORBIDDEN.match(str(text.value)):
                    wrong.append(f"{file.name}:{after.lineno}: {text.value!r}")
    assert not wrong
