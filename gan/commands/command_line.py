"""Command lines: paths and `key=value` options, or Hydra's, with user errors in one line."""

import functools
import os
import sys
from collections.abc import Callable, Container
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import hydra
import yaml
from hydra._internal import hydra as hydra_program
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from gan.config.checks import checked
from gan.config.compose import can_explain, explain, split_words
from gan.config.overrides import escaped
from gan.config.schema import CONF_DIR
from gan.errors import Interrupted, UserError, first_line, nearest
from gan.invocation import as_typed_here
from gan.run.directory import remove_empty
from gan.startup import lost_output, start_program

Options = TypeVar("Options")


def run_command(
    command: Callable[[list[Path], Options], None],
    options: type[Options],
    *,
    names: bool = False,
    trains: bool = False,
) -> None:
    """Call `command(paths, options)` with the arguments of this process.

    A user error ends the process with one line on standard error and the error's exit code.
    `--help` prints the docstring of the command's module and the options with their defaults.

    Args:
        options: a dataclass whose fields are the options, with their types and defaults.
        names: pass on KEY=VALUE among the paths where KEY is no option: it names runs.
        trains: the command succeeds if its work is done, whatever became of its output.
    """
    start_program()
    arguments = sys.argv[1:]
    try:
        if "-h" in arguments or "--help" in arguments:
            print(as_typed_here(str(sys.modules[command.__module__].__doc__)))
            print("Options:")
            for line in OmegaConf.to_yaml(options).splitlines():
                print(f"  {line}")
        else:
            command(*_parse(arguments, options, names))
    except (UserError, Interrupted) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped", exit_code=130))
    except (PermissionError, IsADirectoryError) as error:
        fail(UserError(f"{error.filename}: cannot be read ({error.strerror}); try again"))
    lost = _report_lost_output()
    if lost and not trains:
        # A program that the signal of a closed pipe ends has the exit code 141.
        raise SystemExit(141 if isinstance(lost, BrokenPipeError) else 1)


def run_with_hydra(task: Callable[[DictConfig], Any]) -> None:
    """Call `task(cfg)` under Hydra's command line, with its multirun and its help.

    A user error ends the process with one line on standard error and the error's exit code.
    """
    start_program()
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    # Makes Hydra raise exceptions. Otherwise it would print them and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    @functools.wraps(task)
    def job(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            hydra_cfg = HydraConfig.get()
            user_error = as_user_error(error)
            if hydra_cfg.mode == RunMode.MULTIRUN or user_error is None:
                raise
            # Hydra made this directory.
            run_dir = Path(hydra_cfg.runtime.output_dir)
            remove_empty(run_dir, run_dir.parents)
            raise user_error from error

    _check_folders()
    app = hydra.main(config_path=str(CONF_DIR), config_name="config", version_base="1.3")(job)
    try:
        app()
    except Interrupted as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped before the first step", exit_code=130))
    except Exception as error:
        user_error = as_user_error(error)
        if wants_traceback or user_error is None:
            raise
        fail(user_error)
    _report_lost_output()


def _check_folders() -> None:
    """Refuse folders of YAML files that are not there. One is relative to the working directory."""
    places, _ = split_words(sys.argv[1:])
    for place in ("config-path", "config-dir"):
        if place in places and not Path(places[place]).is_dir():
            given = f"--{place}={places[place]}"
            fail(UserError(f"{given}: there is no such folder of configurations"))
    for index, word in enumerate(sys.argv):
        name, equals, value = word.partition("=")
        if name in ("--config-path", "-cp") and (equals or index + 1 < len(sys.argv)):
            path = Path(value if equals else sys.argv[index + 1]).absolute()
            # Hydra would look beside a module of this package.
            sys.argv[index : index + (1 if equals else 2)] = [f"--config-path={path}"]


class CheckConfig(Callback):
    """A Hydra callback that reports a user error of a run in one line.

    A wrong configuration is refused before a run directory is made.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a configuration, and end the process with one line if it is wrong."""
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            # Hydra sets it after this, and a value may ask for it.
            config.hydra.runtime.output_dir = str(Path(config.hydra.run.dir).absolute())
        try:
            checked(config)
        except UserError as error:
            # Hydra turns any exception of a callback into a warning, except SystemExit.
            fail(error)

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if the run failed by a user error."""
        # Hydra would print a line of its own before it raises the exception again. This callback
        # is the first of all, and so the last one to be told of an end.
        error = kwargs["job_return"]._return_value
        if isinstance(error, UserError):
            fail(error)


class OneLineCallbacks(Callbacks):
    """Hydra's callbacks. One that raises an exception harms nothing, and one line says so."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the callbacks, when `${hydra:...}` can be resolved."""
        HydraConfig.instance().set_config(config)
        super().on_run_start(config, **kwargs)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Tell the callbacks, when `${hydra:...}` can be resolved."""
        HydraConfig.instance().set_config(config)
        super().on_multirun_start(config, **kwargs)

    def _notify(self, function_name: str, reverse: bool = False, **kwargs: Any) -> None:
        for callback in reversed(self.callbacks) if reverse else self.callbacks:
            try:
                getattr(callback, function_name)(**kwargs)
            except Exception as error:
                name = f"{type(callback).__name__}.{function_name}"
                print(f"warning: {name} raised {first_line(error)}", file=sys.stderr)


hydra_program.Callbacks = OneLineCallbacks  # type: ignore[attr-defined]


def fail(error: UserError | Interrupted) -> NoReturn:
    """Print an error and end the process with its exit code."""
    print(error, file=sys.stderr)
    raise SystemExit(error.exit_code)


def as_user_error(error: Exception) -> UserError | None:
    """Return the user error that an exception stands for, or None if the program is at fault."""
    if isinstance(error, UserError):
        return error
    if can_explain(error):
        return UserError(explain(error, sys.argv[1:]))
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{error.filename}: "
        return UserError(f"{where}{error.strerror or first_line(error)}")
    return None


def unknown_option(argument: str, options: type[Any]) -> UserError:
    """Return the error for NAME=VALUE where there is no option NAME."""
    allowed, name = list(option_types(options)), argument.partition("=")[0]
    hint = f"allowed: {', '.join(allowed)}{nearest(name, allowed)}"
    return UserError(f"{argument}: unknown option '{name}'; {hint}")


def _report_lost_output() -> OSError | None:
    """Return the error because of which output is lost; print it unless the reader has gone."""
    error = lost_output()
    if error and not isinstance(error, BrokenPipeError):
        print(f"standard output: cannot be written ({error.strerror})", file=sys.stderr)
    return error


def _parse(arguments: list[str], options: type[Options], names: bool) -> tuple[list[Path], Options]:
    types = option_types(options)
    is_path = {argument: _is_path(argument, types, names) for argument in arguments}
    paths = [Path(argument) for argument in arguments if is_path[argument]]
    given = [argument for argument in arguments if not is_path[argument]]
    # The values of text options are not parsed: "7" and "[a]" stay text.
    texts: dict[str, str | None] = {}
    others = []
    for option in given:
        name, _, value = option.partition("=")
        if name not in types:
            raise unknown_option(option, options)
        if types[name] in (str, str | None):
            texts[name] = None if value == "null" else value
        else:
            others.append(f"{name}={value}")
    try:
        parsed = escaped(OmegaConf.to_container(OmegaConf.from_dotlist(others)))
        merged = OmegaConf.merge(OmegaConf.structured(options), parsed, escaped(texts))
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"{' '.join(given)}: {str(error).splitlines()[0]}") from error
    return paths, OmegaConf.to_object(merged)  # type: ignore[return-value]


def option_types(options: type[Any], prefix: str = "") -> dict[str, Any]:
    """Return the types of options by their names, which have dots where a field is a dataclass."""
    types: dict[str, Any] = {}
    for field in fields(options):
        if isinstance(field.type, type) and is_dataclass(field.type):
            types |= option_types(field.type, f"{prefix}{field.name}.")
        else:
            types[prefix + field.name] = field.type
    return types


def _is_path(argument: str, options: Container[str], names: bool) -> bool:
    # A sweep names its runs by the keys that vary, so a path may contain "=".
    name, equals, _ = argument.partition("=")
    if not equals or len(Path(name).parts) > 1:
        return True
    return name not in options and (names or Path(argument).exists())
