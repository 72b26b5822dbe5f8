"""Values of configuration keys: what is allowed, and how messages show them."""

import math
import re
from collections.abc import Mapping
from typing import Any

from omegaconf import ListConfig

from gan.errors import nearest

_WRONG_VALUES = {
    "converted to Integer": "be a whole number",
    "converted to Float": "be a number",
    "converted to Boolean|valid bool": "be true or false",
    "is not a ListConfig|to ListConfig|list\\[": "be a list, such as [1,2]",
    "is not Optional|non-optional|NoneType is not|Incompatible value 'None'": "not be null",
    "does not support deletion": "not be removed",
}
"""Pairs of a pattern in OmegaConf's message about a value, and what the value must do."""


def broken_limit(value: Any, limits: Mapping[str, Any]) -> str | None:
    """Return what the value must do, to be read after the word "must"; None if it is in range."""
    if "choices" in limits and value not in limits["choices"]:
        choices = [shown(choice) for choice in limits["choices"]]
        return f"be one of {', '.join(choices)}" + nearest(str(value), choices)
    if "path" in limits and not value:
        return "be the path of a file or a folder"
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        return f"match {limits['pattern'].replace('|', ' | ')}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if math.isinf(value):
        return "be finite"
    # These are written so that NaN, which compares false to everything, is outside too.
    if "min" in limits and not value >= limits["min"]:
        return f"be at least {limits['min']}"
    if "max" in limits and not value <= limits["max"]:
        return f"be at most {limits['max']}"
    if "above" in limits and not value > limits["above"]:
        return f"be above {limits['above']}"
    if "below" in limits and not value < limits["below"]:
        return f"be below {limits['below']}"
    return None


def shown(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, ListConfig | list):
        return "[" + ",".join(shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def explain_value(error: BaseException) -> str:
    """Return the rule that a value breaks, by OmegaConf's error about it."""
    text = str(error).splitlines()[0]
    wrong = [rule for pattern, rule in _WRONG_VALUES.items() if re.search(pattern, text)]
    return f"must {wrong[0]}" if wrong else text
