"""The layout of what --help prints: columns as wide as the terminal, and tables of options."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any

from gan.config.overrides import as_override

WIDEST = 100
"""Columns of the widest line."""

TYPES: dict[Any, str] = {
    int: "whole number",
    int | None: "whole number",
    float: "number",
    float | None: "number",
    bool: "true or false",
    str: "text",
    str | None: "text",
    Path: "path",
    Path | None: "path",
}
"""Words for the types of a command's options."""


CHECKPOINT = "newest, or best: the best step by trainer.keep_best"
WEIGHTS = "auto, average or generator; auto takes averaged weights if the run has them"
TRUNCATION = "threshold beyond which values of latents are drawn again; null sets none"
STANDING = "batches from which batch norm takes its statistics anew; 0 keeps those of training"
DEVICES = "auto, cpu, cuda, cuda:N or mps"
SORT_BEST = "column that says which runs are best; null takes the objective"
"""Meanings of options that several commands have."""


def option(default: Any, about: str, *, name: str | None = None) -> Any:
    """Declare an option of a command: its default, and what it means.

    Args:
        name: the option's name on the command line, if it is not that of the field.
    """
    return field(default=default, metadata={"about": about, "name": name})


def named_options(options: type[Any]) -> dict[str, Field[Any]]:
    """Return the options of a command by their names on the command line."""
    found = [entry for entry in fields(options) if entry.name != "words"]
    return {entry.metadata["name"] or entry.name: entry for entry in found}


def passed_on() -> Any:
    """Declare the field `words` of a command's options: words that it passes on to Hydra."""
    return field(default=(), metadata={"name": None})


def default_text(entry: Field[Any]) -> str:
    """Return the default of an option as it is written on the command line."""
    default = entry.default
    return str(default) if isinstance(default, str | Path) else as_override(default)


def options_help(options: type[Any]) -> Iterator[str]:
    """Yield the lines that describe the options of a command."""
    rows = (
        (f"{name}={default_text(entry)}", f"{TYPES[entry.type]}: {entry.metadata['about']}")
        for name, entry in named_options(options).items()
    )
    return table(rows)


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the lines of a table of two columns, the second one wrapped."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, about in rows:
        first, *rest = wrapped(about, width + 4) or [""]
        yield f"  {name:{width}}  {first.lstrip()}".rstrip()
        yield from rest


def wrapped(text: str, indent: int = 0) -> list[str]:
    """Return the lines of a text, as wide as the terminal."""
    columns = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    return textwrap.wrap(
        text,
        max(columns, indent + 30),
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
