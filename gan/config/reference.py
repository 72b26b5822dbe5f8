"""The reference of the configuration in conf/README.md, made from the schemas, the YAML files and
their comments.

`python -m gan.config.reference` writes everything below the line MARK anew. The text above that
line is written by hand and stays.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from gan.config.checks import flatten
from gan.config.compose import compose_unchecked
from gan.config.schema import CONF_DIR, GROUPS, TARGET_GROUPS, target_schema

README = CONF_DIR / "README.md"
MARK = "<!-- Everything below is written by `python -m gan.config.reference`. -->\n"

_LINE = re.compile(r"( *)(?:- )?(?:override /?)?([\w./]+)(?:: .*?|:)?(?: # (.*))?")
_TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    dict: "mapping",
    list: "list",
    Any: "anything",
    NoneType: "null",
}
_LIMITS = {"min": "at least", "max": "at most", "above": "above", "below": "below"}

Row = tuple[str, Any, str]
"""The type and range of a key, its default and its meaning."""


class Option(NamedTuple):
    """An option of a config group, with all that it inherits from other options."""

    about: str
    """The comment at the head of its file."""
    schema: type | None
    """The dataclass of its keys."""
    values: dict[str, Any]
    comments: dict[str, str]


def update(text: str) -> str:
    """Return the text of conf/README.md with a new reference below MARK."""
    return text.partition(MARK)[0] + MARK + "".join(f"\n{block}\n" for block in _blocks())


def read_option(group: str, name: str, folders: Sequence[Path] = (CONF_DIR,)) -> Option:
    """Return an option of a group, or a file at the top of conf/ for the group "".

    Args:
        folders: where the option may lie; the first one that has it counts.
    """
    path = find_option(group, name, folders)
    about, comments = read_comments(path)
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    schema: type | None = None
    if group and (CONF_DIR / f"{group}.yaml").exists():
        # Every option of such a group begins with the values of this file.
        shared = read_option("", group)
        values, schema = shared.values | values, shared.schema
        comments = shared.comments | {key: text for key, text in comments.items() if text}
    for entry in values.get("defaults", []):
        source, base = next(iter(entry.items())) if isinstance(entry, dict) else (group, entry)
        if source in ("schema", "/schema@_here_"):
            schema = OmegaConf.get_type(ConfigStore.instance().load(f"schema/{base}.yaml").node)
        # A file of another group stands there with a path, as /protocol/NAME in an experiment.
        elif source.endswith("@_here_") or (
            source == group and base not in ("_self_", *GROUPS) and not base.startswith("/")
        ):
            parent = read_option(source.removeprefix("/").removesuffix("@_here_"), base, folders)
            values, comments = parent.values | values, parent.comments | comments
            schema = schema or parent.schema
    if group in TARGET_GROUPS:
        names = tuple(key for key in values if key not in ("defaults", "_target_"))
        schema = target_schema(group, values.get("_target_"), names)
    return Option(about, schema, values, comments)


def find_option(group: str, name: str, folders: Sequence[Path]) -> Path:
    """Return the YAML file of an option in the first folder that has it, or else in conf/."""
    found = (folder / group / f"{name}.yaml" for folder in folders)
    return next(filter(Path.is_file, found), CONF_DIR / group / f"{name}.yaml")


def read_comments(path: Path) -> tuple[str, dict[str, str]]:
    """Return the comment at the head of a YAML file, and the comment of each (dotted) key.

    The comment of a key is on the lines above it, or at the end of its line.
    """
    head: str | None = None
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    comments: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            above += [] if line.startswith("# @") else [line.strip(" #")]
            continue
        if head is None:
            head, above = " ".join(above), []
        if match := _LINE.fullmatch(line):
            indent, name, beside = len(match[1]), match[2], match[3] or ""
            parents = [*(parent for parent in parents if parent[0] < indent), (indent, name)]
            comments[".".join(name for _, name in parents)] = " ".join([*above, beside]).strip()
        above = []
    return head or "", comments


def _blocks() -> Iterator[str]:
    """Yield the headings, paragraphs, lists and tables of the reference."""
    main = read_option("", "config")
    defaults = compose_unchecked([], with_hydra=True).hydra.runtime.choices
    hydra = {f"hydra.{key}": value for key, value in flatten(main.values["hydra"]).items()}
    yield "## Keys of the top level, and Hydra's own"
    yield _table({"config": key_rows(main._replace(values=main.values | hydra))})
    for group in [*GROUPS, "recipe", "experiment", "protocol", "hydra/launcher", "hydra/sweeper"]:
        names = sorted(path.stem for path in (CONF_DIR / group).glob("*.yaml"))
        names.sort(key=lambda name: name != defaults[group])
        options = {name: read_option(group, name) for name in names}
        yield f"## {group}\n\n{main.comments[f'defaults.{group}']}"
        items = []
        for name, option in options.items():
            target, note = option.values.get("_target_"), ""
            note += " (default)" if name == defaults[group] else ""
            calls = f" It calls `{target}`." if target else ""
            items.append(f"- [{name}]({group}/{name}.yaml){note}: {option.about}{calls}")
        yield "\n".join(items)
        if group not in ("recipe", "experiment", "protocol"):
            yield _table({name: key_rows(option) for name, option in options.items()})


def key_rows(option: Option) -> dict[str, Row]:
    """Return a row for each key of an option that has a comment, except for targets."""
    declared = {entry.name: entry for entry in fields(option.schema)} if option.schema else {}
    rows = {}
    values = option.values | flatten(option.values)
    for key in filter(option.comments.get, values):
        is_target = key.endswith("_target_") and not key.startswith("hydra.")
        if is_target or (isinstance(values[key], dict) and values[key]):
            continue
        value, entry = values[key], declared.get(key)
        kind = _kind(entry.type, entry.metadata) if entry else _TYPES[type(value)]
        rows[key] = kind, value, option.comments[key]
    return rows


def _kind(hint: Any, limits: Mapping[str, Any]) -> str:
    """Return the type and the range of a key in words."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    if NoneType in get_args(hint):
        return f"{_kind(kinds[0], limits)}, or null"
    if get_origin(hint) is dict:
        return f"mapping, each value: {_kind(kinds[1], limits)}"
    if get_origin(hint) is list:
        count = f" of {limits['length']}" if "length" in limits else ""
        return f"list{count}, each value: {_kind(kinds[0], limits)}"
    if "choices" in limits:
        return "one of " + ", ".join(_default(choice) for choice in limits["choices"])
    if "pattern" in limits:
        return f"text that matches `{limits['pattern']}`"
    if "path" in limits:
        return "path"
    words = [f"{word} {limits[name]}" for name, word in _LIMITS.items() if name in limits]
    return ", ".join([_TYPES.get(hint, "mapping"), *words])


def _table(options: Mapping[str, Mapping[str, Row]]) -> str:
    """Return a table of all keys. It names the options that have a key if others lack it."""
    lines = ["| key | type and range | default | meaning |", "| --- | --- | --- | --- |"]
    for key in dict.fromkeys(key for rows in options.values() for key in rows):
        having = {name: rows[key] for name, rows in options.items() if key in rows}
        where = f" in {', '.join(having)}" if len(having) < len(options) else ""
        shown = {name: (row[0], _default(row[1]), row[2]) for name, row in having.items()}
        cells = [_cell({name: row[column] for name, row in shown.items()}) for column in range(3)]
        lines.append(f"| `{key}`{where} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    shown = value if isinstance(value, str) and value else json.dumps(value)
    return "must be set" if value == "???" else f"`{shown}`"


def _cell(texts: Mapping[str, str]) -> str:
    """Return the text that all options have, or each text with the options that have it."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text.replace("|", "\\|"), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "<br>".join(f"{text} ({', '.join(several)})" for text, several in names.items())


if __name__ == "__main__":
    README.write_text(update(README.read_text(encoding="utf-8")), encoding="utf-8")
