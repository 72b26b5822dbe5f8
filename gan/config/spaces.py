"""Syntax of sweeps beside Hydra's own: keys that change together, and keys that depend on a choice.

    NAME=zip(KEY=SWEEP,KEY=SWEEP)     the first values of all keys, then the second ones, and so on
    KEY=when(KEY=VALUE, SWEEP)        a key that is varied only where another one has that value
    NAME=when(KEY=VALUE, zip(...))    both

SWEEP is what Hydra takes after KEY= in a sweep, such as `choice(1,2)` or `1,2`. VALUE may be a list
of values, such as `[r1,r2]`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig

from gan.errors import UserError

_CALL = re.compile(r"([^=]+)=\s*(zip|when)\((.*)\)\s*", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"


@dataclass(frozen=True)
class WrittenDimension:
    """A `zip` or a `when`, taken apart and not yet understood."""

    name: str
    """The text before the first equals sign."""
    parts: tuple[str, ...]
    """Overrides such as "model=choice(small,base)": one for each key."""
    condition: str = ""
    """An override such as "penalty=r1", or an empty text."""
    is_zip: bool = False


def read_dimension(text: str) -> WrittenDimension | None:
    """Return the parts of an override with `zip` or `when`; None for any other override.

    Raises:
        UserError: the text has one of these and cannot be read.
    """
    found = _CALL.fullmatch(text)
    # Below hydra.sweeper.params, a text stands for a dimension of another name.
    if not found or text.lstrip("+").startswith("hydra."):
        return None
    name, function, inside = found[1], found[2], found[3]
    if function == "zip":
        return WrittenDimension(name, tuple(_zip_parts(text, inside)), is_zip=True)
    first, *rest = _split(text, inside)
    condition, values = first.strip(), inside[len(first) + 1 :].strip()
    if "=" not in condition or not values or not all(part.strip() for part in rest):
        raise UserError(
            f"{text}: needs a choice and values, as in {name}=when(penalty=r1, choice(1,10))"
        )
    condition = "=".join(part.strip() for part in condition.split("=", 1))
    try:
        OverridesParser.create().parse_override(condition)
    except HydraException:
        raise UserError(
            f"{text}: {condition} is no choice; write KEY=VALUE or KEY=[VALUE,VALUE]"
        ) from None
    if values.startswith("when("):
        key = condition.partition("=")[0].strip()
        raise UserError(
            f"{text}: a condition within a condition; let {key} itself have the other condition"
        )
    within = read_dimension(f"{name}={values}")
    parts, is_zip = (within.parts, True) if within else ((f"{name}={values}",), False)
    return WrittenDimension(name, parts, condition, is_zip)


def keys_of(text: str) -> list[str]:
    """Return the keys that an override sets: those inside of a zip, or the one before `=`."""
    written = read_dimension(text)
    parts = written.parts if written else (text,)
    return [part.partition("=")[0].lstrip("+~") for part in parts]


def texts_of(params: Mapping[str, Any]) -> list[str]:
    """Return the overrides that `hydra.sweeper.params` stands for.

    Args:
        params: texts by key or name. A list has one text for each condition.

    Raises:
        UserError: a list has values without a condition, of which only the last would count.
    """
    if not isinstance(params, Mapping | DictConfig):
        raise UserError(f"hydra.sweeper.params={params}: must be a mapping of keys to values")
    texts = []
    for name, values in params.items():
        several = list(values) if isinstance(values, list | ListConfig) else [values]
        plain = [value for value in several if not str(value).lstrip().startswith("when(")]
        if plain and len(several) > 1:
            raise UserError(
                f"hydra.sweeper.params.{name}: {plain[0]} has no condition, and a list has one "
                f'when(...) for each; write several values as "{plain[0]},{plain[-1]}"'
            )
        texts += [f"{name}={value}" for value in several]
    return texts


def parse_for_hydra(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return overrides that Hydra can parse, each with the text that the user gave for it.

    Hydra knows neither `zip` nor `when`. Each key of theirs becomes a sweep over its values.
    """
    found: list[tuple[str, str]] = []
    for text in texts:
        written = read_dimension(text)
        for part in written.parts if written else (text,):
            found.append((as_sweep(part) if written else part, text))
    return found


def has_several_values(text: str) -> bool:
    """Return whether an override sweeps over values; False for a text that Hydra cannot read."""
    try:
        return bool(OverridesParser.create().parse_override(text).is_sweep_override())
    except HydraException:
        return False


def as_sweep(text: str) -> str:
    """Return an override that sweeps over a single value, where it did not sweep."""
    key, _, value = text.partition("=")
    try:
        override: Override = OverridesParser.create().parse_override(text)
    except HydraException:
        # A text with spaces or commas, which is put between quotes later.
        return text
    return text if override.is_sweep_override() else f"{key}=choice({value})"


def _zip_parts(text: str, inside: str) -> list[str]:
    parts = [part.strip() for part in _split(text, inside)]
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UserError(
                f"{text}: {part or 'an empty part'} is not KEY=VALUES; write "
                "NAME=zip(model=choice(small,base),optimizer.lr=choice(1e-4,2e-4))"
            )
        if value.startswith(("zip(", "when(")):
            function = value.partition("(")[0]
            inner = "a zip" if function == "zip" else "a condition"
            outer = "NAME=when(KEY=VALUE, zip(...))"
            hint = "write one zip with all keys" if function == "zip" else f"write {outer}"
            raise UserError(f"{text}: has {inner} within a zip; {hint}")
    return ["=".join(piece.strip() for piece in part.split("=", 1)) for part in parts]


def _split(text: str, inside: str) -> list[str]:
    """Return the parts of a text between commas, except commas in brackets or in quotes.

    Args:
        text: the whole override, for error messages.
        inside: the part of it to split.

    Raises:
        UserError: a bracket or a quote is not closed, or closed too often.
    """
    parts, depth, quote = [""], 0, ""
    for previous, letter in zip(f" {inside}", inside, strict=False):
        if quote:
            quote = "" if letter == quote and previous != "\\" else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if depth < 0:
            break
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    if depth or quote:
        what = "a quote" if quote else "a bracket"
        raise UserError(f"{text}: {what} is not closed, or there is one too many")
    return parts
