"""Values in the notation of Hydra's command line."""

import re
from typing import Any

_NOT_TEXT = ("null", "true", "false", "inf", "nan")
"""Words that Hydra does not read as text, whatever the case of their letters."""


def as_override(value: Any) -> str:
    """Return a value as the part of an override after the equals sign."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_override, value))}]"
    if isinstance(value, str) and (
        value.lower() in _NOT_TEXT or not re.fullmatch(r"[A-Za-z_][\w./-]*", value)
    ):
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
        return f"'{escaped}'"
    return str(value)
