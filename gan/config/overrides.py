"""Overrides of Hydra's command line: values in its notation, and texts as they are written."""

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError

from gan.config.schema import TARGET_GROUPS, settings_of
from gan.errors import UserError

_NOT_TEXT = ("null", "true", "false", "inf", "nan")
"""Words that Hydra does not read as text, whatever the case of their letters."""
_TEXT = (str, str | None)
_ELEMENT = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]*?)\s*(?:,|$)""")
"""An element of a list on the command line, between quotes or up to the next comma."""


def as_override(value: Any) -> str:
    """Return a value as the part of an override after the equals sign."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    if isinstance(value, str) and (
        value.lower() in _NOT_TEXT or not re.fullmatch(r"[A-Za-z_][\w./-]*", value, re.ASCII)
    ):
        return quoted(escaped(value))
    return str(value)


def quoted(text: str) -> str:
    """Return a text between quotes, as an override holds it. Interpolations stay what they are."""
    # Backslashes count double before a quote, the one at the end included.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (m[2] and r"\'"), text) + "'"


def escaped(value: Any) -> Any:
    """Return plain values so that a configuration made of them resolves to the same values.

    OmegaConf would take `${x}` in a text for an interpolation.
    """
    if isinstance(value, dict):
        return {name: escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + r"\${", value)
    return value


def with_quotes(text: str) -> str:
    """Return an override that Hydra reads: a value that is not in its syntax is put in quotes.

    So `notes=it's #3` is a text. Where the key takes no text, its type is what is wrong.
    """
    name, equals, value = text.partition("=")
    # Words and numbers are in the syntax, and the parser takes half a millisecond for each.
    if re.fullmatch(r"[\w.+-]+", value, re.ASCII):
        return text
    try:
        OverridesParser.create().parse_overrides([text])
    except OverrideParseException:
        return f"{name}={quoted(_with_interpolations(value))}" if equals else text
    return text


def _with_interpolations(text: str) -> str:
    """Return a text whose interpolations can be resolved, if they can be read."""
    try:
        OmegaConf.create([text])
    except GrammarParseError:
        return str(escaped(text))
    return text


def takes_any_text(cfg: DictConfig, key: str) -> bool:
    """Return whether the value of a dotted key is a text, and not one of a few words."""
    kind, limits = _declared(cfg, key)
    return kind in _TEXT and "choices" not in limits


def value_as_written(cfg: DictConfig, override: Override) -> Any:
    """Return the value that an override gives a key. Texts are taken as they are written.

    Hydra would make a number of `name=1.10` and of each word in `tags=[1.10,7e5]`.

    Args:
        cfg: has the options that the override belongs to.
    """
    value: Any = override.value()
    kind, _ = _declared(cfg, override.key_or_group)
    if kind in _TEXT:
        return value if isinstance(value, str | None) else override.get_value_string()
    if kind != list[str]:
        return value
    written = value if isinstance(value, str) else override.get_value_string()
    if not re.fullmatch(r"\[.*\]", written, re.DOTALL):
        return value
    words = [found[1] for found in _ELEMENT.finditer(written[1:-1]) if found[0]]
    if isinstance(value, str):
        return [word[1:-1] if word[:1] in ("'", '"') == word[-1:] else word for word in words]
    if not isinstance(value, list) or len(words) != len(value):
        return value
    numbers = [isinstance(item, int | float) for item in value]
    return [w if number else item for w, item, number in zip(words, value, numbers, strict=True)]


def _declared(cfg: DictConfig, key: str) -> tuple[Any, Mapping[str, Any]]:
    """Return the type and the limits of a dotted key, by its schema or the function that takes it.

    The type is None where none is known.
    """
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, above) if above else cfg
    if not isinstance(node, DictConfig):
        return None, {}
    if above in TARGET_GROUPS:
        try:
            setting = settings_of(above, node.get("_target_")).get(name)
        except UserError:
            return None, {}
        return (setting.type, setting.limits) if setting else (None, {})
    schema = OmegaConf.get_type(node)
    entries = fields(schema) if is_dataclass(schema) else ()
    return next(((e.type, e.metadata) for e in entries if e.name == name), (None, {}))
