"""The points of a grid: every combination of the swept values of a command line."""

import itertools
from collections.abc import Mapping, Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser

from gan.errors import UserError


def grid(
    loader: ConfigLoader, arguments: Sequence[str], params: Mapping[str, object]
) -> list[list[str]]:
    """The overrides of each point; the last swept key varies fastest.

    Args:
        arguments: the command line's overrides. They come before `params`' values of a key.
        params: more sweeps, by key, such as `{"optimizer.lr": "1e-4,2e-4"}`.

    Raises:
        UserError: a sweep is over an interval, not over values.
    """
    parser = OverridesParser.create(config_loader=loader)
    values: dict[str, list[str]] = {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *arguments]
    for override in parser.parse_overrides(texts):
        key = override.get_key_element()
        # A key given twice counts where it was given last.
        values.pop(key, None)
        if not override.is_sweep_override():
            assert override.input_line is not None
            values[key] = [override.input_line]
        elif override.is_discrete_sweep():
            values[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            raise UserError(
                f"{override.input_line}: a grid needs values, such as {key}=1,2 or {key}=range(1,4)"
            )
    return [list(point) for point in itertools.product(*values.values())]
