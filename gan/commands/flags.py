"""The flags of Hydra's command line, such as --multirun, anywhere among the overrides."""

import argparse
import re
import sys
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from gan.errors import UserError, nearest
from gan.system.files import expanded
from gan.system.invocation import command_line

FOLDERS = ("config_dir", "config_path")
"""Flags whose values are folders of YAML files."""


def read_flags() -> argparse.Namespace:
    """Return the flags of this process's command line, and put them behind the overrides there.

    Hydra itself takes the overrides in one piece only. Folders of YAML files become absolute, so
    that they are found from another working directory when a run is repeated.

    Raises:
        UserError: a flag is unknown, lacks its value or has a wrong one.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_intermixed_args()
    if unknown:
        allowed = [name for name in parser._option_string_actions if name.startswith("--")]
        hint = nearest(unknown[0], allowed) or f"; there are {', '.join(allowed)}"
        raise UserError(f"{unknown[0]}: no such option{hint}")
    if flags.experimental_rerun is not None:
        raise UserError(
            f"--experimental-rerun={flags.experimental_rerun}: reads a file of Hydra's, and runs "
            f"here have none; {command_line('resume')} RUN_DIR continues a run"
        )
    if flags.package is not None and flags.cfg is None:
        raise UserError(f"--package={flags.package}: needs --cfg")
    for name in FOLDERS:
        if (given := getattr(flags, name)) is not None:
            # Hydra would look beside a module of this package.
            setattr(flags, name, str(Path(expanded(given)).absolute()))
            if not given or not Path(getattr(flags, name)).is_dir():
                shown = f"--{name.replace('_', '-')}={given}"
                raise UserError(f"{shown}: there is no such folder of configurations")
    words = [*flags.overrides]
    for name, value in vars(flags).items():
        if name != "overrides" and value not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            words.append(flag if value is True else f"{flag}={value}")
    sys.argv[1:] = words
    return flags


def _refuse(message: str) -> NoReturn:
    raise UserError(re.sub(r"^argument ([^/:]+)[^:]*", r"\1", message))
