"""What a run is, as a hash, and what its directory in a sweep is called."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gan.config.checks import defines_result

LONGEST = 120
"""Characters of a directory name: file systems allow 255 bytes, tables less."""


def identity(flat: Mapping[str, Any]) -> str:
    """A hash of the (dotted) configuration keys that define a run's result."""
    defining = {key: value for key, value in flat.items() if defines_result(key)}
    return _digest(json.dumps(defining, sort_keys=True))


def job_name(values: Mapping[str, Any]) -> str:
    """The directory name of the point with these values of the swept (dotted) keys, such as
    `hidden_dim=256,lr=0.0002,seed=1`. It does not depend on the order of the keys."""
    # Seeds last: in a sorted list, repetitions of one point stand together.
    keys = sorted(values, key=lambda key: (key == "seed", key))
    short = labels(keys)
    full = ",".join(f"{short[key]}={_text(values[key])}" for key in keys)
    safe = re.sub(r"[^A-Za-z0-9_.,=+-]", "_", full)
    if safe == full and len(safe) <= LONGEST:
        return safe
    return f"{safe[: LONGEST - 9]}-{_digest(full)[:8]}"


def name_of_point(names: list[str]) -> str:
    """What the names of one point's jobs, which differ in their seeds, have in common."""
    return names[0].rpartition("seed=")[0].rstrip(",") or "all"


def labels(keys: Iterable[str]) -> dict[str, str]:
    """The shortest ending of each dotted key that no other key has."""
    keys = list(keys)

    def ending(key: str) -> str:
        parts = key.split(".")
        for count in range(1, len(parts)):
            short = ".".join(parts[-count:])
            # An index says nothing without the list it is of.
            if not short[0].isdigit() and not any(
                other != key and f".{other}".endswith(f".{short}") for other in keys
            ):
                return short
        return key

    return {key: ending(key) for key in keys}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "_".join(map(_text, value))
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
