"""What the scripts share: Hydra's command line with user mistakes told in one line."""

import functools
import os
import sys
from collections.abc import Callable
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

Schema = TypeVar("Schema")


class CheckConfig(Callback):
    """A Hydra callback that refuses a wrong configuration before a run directory is made."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check(config)
        except UserError as error:
            # Hydra turns a callback's exception into a warning, SystemExit alone passes.
            fail(error)


def hydra_app(task: Callable[[DictConfig], Any]) -> None:
    """Run `task(cfg)` under Hydra's command line, multirun and help included."""
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Hydra then raises what it would otherwise print and exit for.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            hydra_cfg = HydraConfig.get()
            if hydra_cfg.mode == RunMode.MULTIRUN or not (told := _told(error)):
                raise
            # Hydra made the directory, and would print a second line for an exception.
            run_dir = Path(hydra_cfg.runtime.output_dir)
            remove_empty(run_dir, run_dir.parents)
            fail(told)

    app = hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")(job)
    try:
        app()
    except Interrupted as stopped:
        fail(stopped)
    except KeyboardInterrupt:
        fail(Interrupted("stopped before the first step", exit_code=130))
    except Exception as error:
        if wants_traceback or not (told := _told(error)):
            raise
        fail(told)


def _told(error: Exception) -> UserError | None:
    """The user's mistake behind an exception, or None if it is none."""
    if isinstance(error, UserError):
        return error
    if can_explain(error):
        return UserError(explain(error, sys.argv[1:]))
    if isinstance(error, OSError):
        return UserError(f"{error.filename}: {error.strerror}")
    return None


def script(task: Callable[..., None], schema: type[Schema]) -> None:
    """Run `task(paths, options)` on a command line of paths and `key=value` options.

    `schema` is a dataclass of the options, with their types and defaults.
    """
    try:
        task(*_parse(sys.argv[1:], schema))
    except (UserError, Interrupted) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped", exit_code=130))
    except BrokenPipeError:
        # Whoever reads, such as `head`, has enough; Python would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None


def fail(error: UserError | Interrupted) -> NoReturn:
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)


def _parse(arguments: list[str], schema: type[Schema]) -> tuple[list[Path], Schema]:
    names = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    if any(argument in ("-h", "--help") for argument in arguments):
        print(sys.modules["__main__"].__doc__)
        print(
            "Options:", *(f"  {line}" for line in OmegaConf.to_yaml(schema).splitlines()), sep="\n"
        )
        raise SystemExit(0)
    # The runs of a sweep are named by the keys that vary: a path may hold "=".
    paths = [Path(argument) for argument in arguments if _is_path(argument, names)]
    options = [argument for argument in arguments if not _is_path(argument, names)]
    for option in options:
        name = option.partition("=")[0]
        if name not in names:
            allowed = f"allowed: {', '.join(names)}{nearest(name, names)}"
            raise UserError(f"{option}: unknown option '{name}'; {allowed}")
    texts = {field.name for field in fields(schema) if field.type in (str, str | None)}  # type: ignore[arg-type]
    given = [option.partition("=")[::2] for option in options]
    try:
        # What is to be text is none the less when it looks like a number or a list.
        merged = OmegaConf.merge(
            OmegaConf.structured(schema),
            OmegaConf.from_dotlist(
                [f"{name}={value}" for name, value in given if name not in texts]
            ),
            {name: None if value == "null" else value for name, value in given if name in texts},
        )
    except OmegaConfBaseException as error:
        raise UserError(f"{' '.join(options)}: {str(error).splitlines()[0]}") from error
    return paths, OmegaConf.to_object(merged)  # type: ignore[return-value]


def _is_path(argument: str, options: list[str]) -> bool:
    name, equals, _ = argument.partition("=")
    if not equals or len(Path(name).parts) > 1:
        return True
    return name not in options and Path(argument).exists()
