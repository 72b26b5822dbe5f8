"""Which runs may be trained together."""

import json
from typing import Any

from gan.config.checks import defines_result, flatten, is_under

ALIKE = ("device", "threads", "data", "trainer.compile", "trainer.cuda_graphs")
"""Keys that must be equal even where a run's result does not depend on them."""
FREE = (
    "seed",
    "metrics",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.checkpoint_every",
)
"""Keys that may differ."""
GIVEN_OR_NOT = ("trainer.ema_half_life", "trainer.ema_ramp_up")
"""Numbers that may differ where both are set."""
ZERO_OR_NOT = ("optimizer.momentum", "discriminator_optimizer.momentum")
"""Numbers that may differ where neither is zero."""
NUMBERS = ("optimizer", "discriminator_optimizer", "loss", "penalty")
"""Groups whose numbers may differ."""
COUNTS = ("penalty.interval",)
"""Numbers among them that say which steps do what, and may not."""
WIDTHS = ("model.hidden_dim", "model.channels")
"""May differ, as zeros fill up the narrow networks, where no norm takes means over the width."""


def signature(config: dict[str, Any]) -> str:
    """What the resolved configurations of runs have in common that may be members of one
    group."""
    flat = flatten(config)
    norms = flat.get("model.generator_norm"), flat.get("model.discriminator_norm")
    free = FREE if "layer" in norms else (*FREE, *WIDTHS)
    return json.dumps(
        {
            key: _fixed(key, value)
            for key, value in flat.items()
            if is_under(key, ALIKE) or (defines_result(key) and not is_under(key, free))
        },
        sort_keys=True,
    )


def _fixed(key: str, value: Any) -> Any:
    """What of a value may not differ."""
    if key in GIVEN_OR_NOT:
        return value is not None
    if key in ZERO_OR_NOT:
        return value != 0
    if is_under(key, NUMBERS) and key not in COUNTS:
        return _without_numbers(value)
    return value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else value
