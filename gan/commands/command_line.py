"""Command lines: paths and `key=value` options, or Hydra's, with user errors in one line."""

import functools
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import hydra
import yaml
from hydra._internal import hydra as hydra_program
from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from gan import __version__
from gan.commands.flags import read_flags
from gan.commands.help import named_options, options_help
from gan.commands.train_help import train_help
from gan.config.checks import checked, is_under
from gan.config.compose import can_explain, explain
from gan.config.loader import VERSION_BASE, as_given
from gan.config.paths import make_paths_absolute
from gan.config.schema import CONF_DIR
from gan.config.values import explain_value
from gan.distributed.processes import current_processes, refused_sweep
from gan.errors import Interrupted, OutOfMemory, UserError, first_line, is_out_of_memory, nearest
from gan.run.directory import remove_empty
from gan.system.files import expanded
from gan.system.invocation import as_typed_here
from gan.system.startup import lost_output, start_program

Options = TypeVar("Options")

VERSION = f"gan-sweeps {__version__}"
OF_SWEEPS = ("sweep", "hydra.sweep", "hydra.sweeper", "hydra.launcher")
"""Keys and groups that do nothing in a single run, with dots for slashes."""
OF_HYDRAS_JOBS = (
    "hydra.job.chdir",
    "hydra.job.env_set",
    "hydra.job.env_copy",
    "hydra.output_subdir",
)
"""Keys that Hydra's own launchers read, and the launchers of this package do not."""


def run_command(
    command: Callable[[list[Path], Options], None],
    options: type[Options],
    *,
    names: bool = False,
    trains: bool = False,
    groups: Sequence[str] = (),
) -> None:
    """Call `command(paths, options)` with the arguments of this process.

    A user error ends the process with one line on standard error and the error's exit code.
    `--help` prints the docstring of the command's module and the options with their defaults.

    Args:
        options: a dataclass whose fields are the options, with their types and defaults.
        names: accept KEY=VALUE among the paths where KEY is no option, because directories of
            runs have such names.
        groups: config groups whose overrides GROUP.KEY=VALUE are collected in the field `words` of
            the options, together with --config-dir=FOLDER.
        trains: exit with 0 if the work is done, even if the output could not be printed.
    """
    start_program()
    arguments = sys.argv[1:]
    try:
        if "--version" in arguments:
            print(VERSION)
        elif "-h" in arguments or "--help" in arguments:
            print(as_typed_here(str(sys.modules[command.__module__].__doc__)))
            print("Options:", *options_help(options), sep="\n")
        else:
            command(*parse(arguments, options, names, groups))
    except (UserError, Interrupted) as error:
        fail(error)
    except KeyboardInterrupt:
        fail(Interrupted("stopped", exit_code=130))
    except (PermissionError, IsADirectoryError) as error:
        fail(UserError(f"{error.filename}: cannot be read ({error.strerror}); try again"))
    except OSError as error:
        # Such as a full disk.
        if error.errno is None or (user_error := as_user_error(error)) is None:
            raise
        fail(user_error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        hint = "try fewer samples at a time, another device, or when other programs have ended"
        fail(OutOfMemory(f"memory ran out ({first_line(error)}); {hint}"))
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
            remove_empty(*CheckConfig.made_by_hydra)
            raise user_error from error

    app = hydra.main(config_path=str(CONF_DIR), config_name="config", **VERSION_BASE)(job)
    try:
        if "--version" in sys.argv[1:]:
            print(VERSION)
        elif read_flags().help:
            print(*train_help(sys.argv[1:]), sep="\n")
        else:
            app()
    except Interrupted as error:
        fail(error)
    except KeyboardInterrupt:
        # It came before the first step or after the last one, or again and again in between.
        fail(Interrupted("stopped; a run that has a checkpoint goes on from it", exit_code=130))
    except Exception as error:
        user_error = as_user_error(error)
        if wants_traceback or user_error is None:
            raise
        fail(user_error)
    _report_lost_output()


class CheckConfig(Callback):
    """A Hydra callback that reports a user error of a run in one line.

    A wrong configuration is refused before a run directory is made.
    """

    made_by_hydra: ClassVar[list[Path]] = []
    """The run directory and those above it that were not there before Hydra made them."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check a configuration, and end the process with one line if it is wrong."""
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            # Hydra sets output_dir only after this callback, and a value may refer to it.
            run_dir = Path(config.hydra.run.dir).absolute()
            config.hydra.runtime.output_dir = str(run_dir)
        folders = (run_dir, *run_dir.parents)
        self.made_by_hydra[:] = [folder for folder in folders if not folder.exists()]
        try:
            for word in _words_about(config, OF_SWEEPS):
                raise UserError(f"{word}: is about a sweep, and this is one run; add -m to sweep")
            checked(config)
            # Hydra may change the working directory after this.
            make_paths_absolute(config)
        except UserError as error:
            # Hydra turns any exception of a callback into a warning, except SystemExit.
            fail(error)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if a word of the command line would do nothing, or if
        several processes were started for one run.
        """
        if processes := current_processes():
            fail(UserError(refused_sweep("-m", processes.size)))
        for word in _words_about(config, ["hydra.run"]):
            fail(UserError(f"{word}: is about one run; a sweep takes hydra.sweep.dir=DIR"))
        if str(config.hydra.launcher._target_).startswith("hydra_plugins.gan_"):
            for word in _words_about(config, OF_HYDRAS_JOBS):
                problem = "has no effect on the runs of a sweep, which are processes of their own"
                fail(UserError(f"{word}: {problem}; leave it out"))

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """End the process with one line if the run failed by a user error."""
        # Hydra would print a line of its own before it raises the exception again. It calls the
        # callbacks in reverse order at an end, so that this one, the first of all, comes last.
        error = kwargs["job_return"]._return_value
        if isinstance(error, UserError):
            fail(error)


def _words_about(config: DictConfig, keys: Iterable[str]) -> Iterator[str]:
    """Yield the words of the command line that set one of some keys, or a key below it."""
    given = config.hydra.overrides
    for word in [*as_given(given.hydra), *as_given(given.task)]:
        if is_under(word.lstrip("+~").partition("=")[0].replace("/", "."), keys):
            yield word


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


# Hydra has no setting for the class of its callbacks.
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
    allowed, name = list(named_options(options)), argument.partition("=")[0]
    hint = f"allowed: {', '.join(allowed)}{nearest(name, allowed)}"
    return UserError(f"{argument}: unknown option '{name}'; {hint}")


def _report_lost_output() -> OSError | None:
    """Return the error because of which output is lost; print it unless the reader has gone."""
    error = lost_output()
    if error and not isinstance(error, BrokenPipeError):
        print(f"standard output: cannot be written ({error.strerror})", file=sys.stderr)
    return error


def parse(
    arguments: list[str], options: type[Options], names: bool = False, groups: Sequence[str] = ()
) -> tuple[list[Path], Options]:
    """Return the paths and the options of a command line.

    Args:
        options, names, groups: as for `run_command`.

    Raises:
        UserError: an argument is neither, or a value has the wrong type.
    """
    entries = named_options(options)
    paths = []
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not argument:
            raise UserError("'': an empty argument; a path was expected")
        is_dotted = equals and name.partition(".")[0] in groups and "." in name
        if groups and (is_dotted or (name == "--config-dir" and value)):
            values["words"] = (*values.get("words", ()), argument)
            continue
        if groups and argument == "--config-dir":
            raise UserError("--config-dir: give the folder as --config-dir=FOLDER")
        if argument.startswith("-"):
            raise UserError(f"{argument}: no such flag; there are --help and --version")
        if _is_path(argument, entries, names):
            paths.append(Path(expanded(argument)))
        elif name not in entries:
            raise unknown_option(argument, options)
        elif not value:
            raise UserError(f"{argument}: needs a value; leave the option out for its default")
        else:
            values[entries[name].name] = _read_value(options, entries[name], argument)
    return paths, options(**values)


def _read_value(options: type[Any], entry: Field[Any], argument: str) -> Any:
    """Return the value of an option. A text is not parsed: "7" and "[a]" stay text."""
    kind, text = entry.type, argument.partition("=")[2]
    if kind in (str, str | None, Path, Path | None):
        value = None if text == "null" and kind in (str | None, Path | None) else text
        return Path(expanded(text)) if value and kind in (Path, Path | None) else value
    try:
        given = OmegaConf.from_dotlist([f"{entry.name}={text}"])
        return OmegaConf.select(OmegaConf.merge(OmegaConf.structured(options), given), entry.name)
    except (OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(f"{argument}: {explain_value(error)}") from error


def _is_path(argument: str, options: Container[str], names: bool) -> bool:
    # A sweep names its runs by the keys that vary, so a path may contain "=".
    name, equals, _ = argument.partition("=")
    if not equals or len(Path(name).parts) > 1:
        return True
    return name not in options and (names or Path(argument).exists())
