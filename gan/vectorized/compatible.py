"""Which runs may be trained in one cohort. Imports no torch."""

import json
from typing import Any

from gan.config.checks import defines_result, flatten, is_under

ALWAYS_EQUAL = ("device", "threads", "data", "trainer.compile", "trainer.cuda_graphs")
"""Keys that must be equal in a cohort, although most of them do not change a run's result."""
FREE = (
    "seed",
    "metrics",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.checkpoint_every",
)
"""Keys that may differ."""
NUMBERS_IF_SET = ("trainer.ema_half_life", "trainer.ema_ramp_up")
"""Numbers that may differ where both runs set them."""
NUMBERS_IF_NOT_ZERO = ("optimizer.momentum", "discriminator_optimizer.momentum")
"""Numbers that may differ where neither is zero."""
GROUPS_OF_NUMBERS = ("optimizer", "discriminator_optimizer", "loss", "penalty")
"""Groups whose numbers may differ."""
EQUAL_NUMBERS = ("penalty.interval",)
"""Numbers of these groups that must be equal, because they decide the kind of each step."""
WIDTHS = ("model.hidden_dim", "model.channels")
"""Widths may differ, because zeros fill up the narrow networks. They must be equal where a norm
takes means over the width."""


def compatibility_key(config: dict[str, Any]) -> str:
    """Return a text that is equal for resolved configurations that fit into one cohort."""
    flat = flatten(config)
    norms = flat.get("model.generator_norm"), flat.get("model.discriminator_norm")
    free = FREE if "layer" in norms else (*FREE, *WIDTHS)
    return json.dumps(
        {
            key: _fixed_part(key, value)
            for key, value in flat.items()
            if is_under(key, ALWAYS_EQUAL) or (defines_result(key) and not is_under(key, free))
        },
        sort_keys=True,
    )


def _fixed_part(key: str, value: Any) -> Any:
    """Return the part of a value that must be equal."""
    if key in NUMBERS_IF_SET:
        return value is not None
    if key in NUMBERS_IF_NOT_ZERO:
        return value != 0
    if is_under(key, GROUPS_OF_NUMBERS) and key not in EQUAL_NUMBERS:
        return _without_numbers(value)
    return value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else value
