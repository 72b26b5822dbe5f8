"""Command lines: paths and `key=value` options, or Hydra's, with user errors in one line."""

import functools
import os
import sys
from collections.abc import Callable, Container
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import check
from gan.config.compose import CONF_DIR, can_explain, explain
from gan.errors import Interrupted, UserError, nearest
from gan.run.directory import remove_empty

Options = TypeVar("Options")


def run_command(command: Callable[[list[Path], Options], None], options: type[Options]) -> None:
    """Call `command(paths, options)` with the arguments of this process.

    A user error ends the process with one line on standard error and the error's exit code.
    `--help` prints the docstring of the command's module and the options with their defaults.

    Args:
        options: a dataclass whose fields are the options, with their types and defaults.
    """
    arguments = sys.argv[1:]
    try:
        if "-h" in arguments or "--help" in arguments:
            print(sys.modules[command.__module__].__doc__)
            print("Options:")
            for line in OmegaConf.to_yaml(options).splitlines():
                print(f"  {line}")
        else:
            command(*_parse(arguments, options))
    except (UserError, Interrupted) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped", exit_code=130))
    except BrokenPipeError:
        # The reader of our output, such as `head`, has closed it. Without this line Python would
        # complain once more when it flushes the output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def run_with_hydra(task: Callable[[DictConfig], Any]) -> None:
    """Call `task(cfg)` under Hydra's command line, with its multirun and its help.

    A user error ends the process with one line on standard error and the error's exit code.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Makes Hydra raise exceptions. Otherwise it would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            hydra_cfg = HydraConfig.get()
            user_error = _as_user_error(error)
            if hydra_cfg.mode == RunMode.MULTIRUN or user_error is None:
                raise
            # Hydra made this directory, and it would print a second line for an exception.
            run_dir = Path(hydra_cfg.runtime.output_dir)
            remove_empty(run_dir, run_dir.parents)
            fail(user_error)

    app = hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")(job)
    try:
        app()
    except Interrupted as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped before the first step", exit_code=130))
    except Exception as error:
        user_error = _as_user_error(error)
        if wants_traceback or user_error is None:
            raise
        fail(user_error)


class CheckConfig(Callback):
    """A Hydra callback that refuses a wrong configuration before a run directory is made."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a configuration, and end the process with one line if it is wrong."""
        try:
            check(config)
        except UserError as error:
            # Hydra turns any exception of a callback into a warning, except SystemExit.
            fail(error)


def fail(error: UserError | Interrupted) -> NoReturn:
    """Print an error and end the process with its exit code."""
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)


def _as_user_error(error: Exception) -> UserError | None:
    """Return the user error that an exception stands for, or None if the program is at fault."""
    if isinstance(error, UserError):
        return error
    if can_explain(error):
        return UserError(explain(error, sys.argv[1:]))
    if isinstance(error, OSError):
        return UserError(f"{error.filename}: {error.strerror}")
    return None


def _parse(arguments: list[str], options: type[Options]) -> tuple[list[Path], Options]:
    types = {field.name: field.type for field in fields(options)}  # type: ignore[arg-type]
    paths = [Path(argument) for argument in arguments if _is_path(argument, types)]
    given = [argument for argument in arguments if not _is_path(argument, types)]
    # The values of text options are not parsed: "7" and "[a]" stay text.
    texts: dict[str, str | None] = {}
    others = []
    for option in given:
        name, _, value = option.partition("=")
        if name not in types:
            allowed = f"allowed: {', '.join(types)}{nearest(name, types)}"
            raise UserError(f"{option}: unknown option '{name}'; {allowed}")
        if types[name] in (str, str | None):
            texts[name] = None if value == "null" else value
        else:
            others.append(f"{name}={value}")
    try:
        parsed = OmegaConf.from_dotlist(others)
        merged = OmegaConf.merge(OmegaConf.structured(options), parsed, texts)
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(given)}: {str(error).splitlines()[0]}") from error
    return paths, OmegaConf.to_object(merged)  # type: ignore[return-value]


def _is_path(argument: str, options: Container[str]) -> bool:
    # A sweep names its runs by the keys that vary, so a path may contain "=".
    name, equals, _ = argument.partition("=")
    if not equals or len(Path(name).parts) > 1:
        return True
    return name not in options and Path(argument).exists()
