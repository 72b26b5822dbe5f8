"""Rules for the runs that may be trained in one cohort. Imports no torch."""

import json
from typing import Any

from gan.config.checks import defines_result, flatten, is_under
from gan.config.schema import settings_of
from gan.errors import UserError
from gan.settings import Stacking

ALWAYS_EQUAL = ("device", "threads", "matmul", "data", "trainer.compile", "trainer.cuda_graphs")
"""Keys that must be equal in a cohort, although most of them do not change a run's result."""
FREE = (
    "seed",
    "metrics",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.checkpoint_every",
    "trainer.patience",
    "trainer.flip",
    "trainer.augment_p",
    "trainer.ada_images",
    "trainer.init_from",
    "trainer.init_hash",
)
"""Keys that may differ."""
NUMBERS_IF_SET = ("trainer.ema_half_life", "trainer.ema_ramp_up", "trainer.ada_target")
"""Numbers that may differ where both runs set them."""
NUMBERS_IF_NOT_ZERO = ("optimizer.momentum", "discriminator_optimizer.momentum")
"""Numbers that may differ where neither is zero."""
GROUPS_OF_NUMBERS = ("optimizer", "discriminator_optimizer")
"""Groups whose numbers may differ."""


def compatibility_key(config: dict[str, Any]) -> str:
    """Return a text that is equal for two resolved configurations if one cohort can train both."""
    flat = flatten(config)
    # A layer norm takes means over the width, so that zeros would count.
    norms = flat.get("model.generator_norm"), flat.get("model.discriminator_norm")
    free, numbers = [*FREE], [*GROUPS_OF_NUMBERS, "schedule"]
    for group in ("model", "loss", "penalty"):
        for name, stacking in _stacking_of(group, config[group]["_target_"]).items():
            if stacking is Stacking.PADDED and "layer" not in norms:
                free.append(f"{group}.{name}")
            if stacking is Stacking.AS_TENSOR:
                numbers.append(f"{group}.{name}")
    return json.dumps(
        {
            key: _fixed_part(key, value, numbers)
            for key, value in flat.items()
            if is_under(key, ALWAYS_EQUAL) or (defines_result(key) and not is_under(key, free))
        },
        sort_keys=True,
    )


def _stacking_of(group: str, target: str | None) -> dict[str, Stacking | None]:
    """Return the ways in which runs may differ in the parameters of a target."""
    try:
        return {name: setting.stacking for name, setting in settings_of(group, target).items()}
    except UserError:
        # The run itself will say what is wrong with its target.
        return {}


def _fixed_part(key: str, value: Any, numbers: list[str]) -> Any:
    """Return the part of a value that must be equal."""
    if key in NUMBERS_IF_SET:
        return value is not None
    if key in NUMBERS_IF_NOT_ZERO:
        return value != 0
    if is_under(key, numbers):
        return _without_numbers(value)
    return value


def _without_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_numbers(item) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number" if is_number else value
