"""Open TensorBoard on runs: gan board [DIR] [port=6006] [last=20] [best=20]

Shows outputs/ if no directory is given: every step of the sample grids, and new values every few
seconds while runs go on. Only this machine can connect.
"""

import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import run_command
from gan.commands.help import SORT_BEST, option
from gan.errors import UserError
from gan.run.directory import EVENT_FILES
from gan.system.invocation import command_line

MOST_GRIDS = 10_000
"""The number of sample grids of a run that TensorBoard shows."""
MOST_TICKED, MOST_TICKED_IN_TIME_SERIES = 40, 500
"""The numbers of runs up to which tabs of TensorBoard begin with all of them ticked."""


@dataclass
class Options:
    """Options of `gan board`."""

    port: int = option(6006, "port to serve on; 0 takes any free port")
    last: int | None = option(None, "only so many of the newest runs")
    best: int | None = option(None, "only so many of the best runs")
    sort: str | None = option(None, SORT_BEST)


def main() -> None:
    """Run the command line."""
    run_command(board, Options)


def board(paths: list[Path], options: Options) -> None:
    """Serve TensorBoard until the process is stopped.

    Raises:
        UserError: there is nothing to show, or an option is wrong.
    """
    if len(paths) > 1:
        raise UserError(f"usage: {command_line('board')} [DIR] [port=6006] [last=20] [best=20]")
    folder = paths[0] if paths else Path("outputs")
    _check(options)
    if not folder.is_dir():
        raise UserError(f"{folder}: {'not a directory' if folder.exists() else 'does not exist'}")
    run_dirs: Sequence[Path] = list({path.parent for path in folder.rglob(EVENT_FILES)})
    if not run_dirs:
        raise UserError(
            f"{folder}: holds no event files; runs write them with logging.tensorboard=true"
        )
    with ExitStack() as stack:
        shown = folder
        if options.last is not None or options.best is not None:
            run_dirs = _chosen(folder, options)
            shown = stack.enter_context(linked(folder, run_dirs))
        if len(run_dirs) > MOST_TICKED:
            print(_advice(folder, len(run_dirs)), file=sys.stderr, flush=True)
        _serve(shown, options.port)


@contextmanager
def linked(folder: Path, run_dirs: Sequence[Path]) -> Iterator[Path]:
    """Make a temporary folder of links to runs, which have the names there that they have below
    `folder`.

    Raises:
        UserError: this system makes no links.
    """
    with tempfile.TemporaryDirectory(prefix="gan-board-") as links:
        for run_dir in sorted(run_dirs):
            # The folder itself may be a run.
            link = Path(links, run_dir.relative_to(folder) if run_dir != folder else folder.name)
            # A run inside another one is there by the link to that one.
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                try:
                    link.symlink_to(run_dir.resolve(), target_is_directory=True)
                except OSError as error:
                    raise UserError(
                        f"{link}: cannot be made a link ({error.strerror}), as last= and best= do; "
                        "leave them out"
                    ) from error
        yield Path(links)


def _check(options: Options) -> None:
    if not 0 <= options.port < 65536:
        raise UserError(f"port={options.port}: must be from 0 to 65535")
    with socket.socket() as sock:
        # TensorBoard does the same, so that a server may follow one that has just ended.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", options.port))
        except OSError as error:
            reason = f"cannot be used ({error.strerror}); port=0 takes any free port"
            raise UserError(f"port={options.port}: {reason}") from error
    for name in ("last", "best"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"{name}={value}: must be at least 1")
    if options.last is not None and options.best is not None:
        raise UserError(f"last={options.last} and best={options.best}: give one of them")
    if options.sort is not None and options.best is None:
        raise UserError(f"sort={options.sort}: says which runs are best; give best=20 with it")


def _chosen(folder: Path, options: Options) -> list[Path]:
    """Return the directories of the newest or the best runs that have event files."""
    # pandas takes a second to import. Help and mistakes on the command line do not need it.
    from gan.compare import query
    from gan.compare.frame import read_table
    from gan.compare.rank import best_first

    runs = read_table([folder])
    has_events = [any(Path(path).glob(EVENT_FILES)) for path in runs.frame["path"]]
    runs = runs.with_rows(runs.frame[has_events])
    if options.last is not None:
        runs = query.newest(runs, options.last)
    else:
        metric, runs = best_first(runs, options.sort)
        runs = runs.counted(metric)
        runs = runs.with_rows(runs.frame.head(options.best))
    return [*map(Path, runs.frame["path"])]


def _advice(folder: Path, count: int) -> str:
    words = command_line("board", folder)
    tabs = "SCALARS, CUSTOM SCALARS and IMAGES"
    if count > MOST_TICKED_IN_TIME_SERIES:
        tabs = f"TIME SERIES, {tabs}"
    return (
        f"{count} runs: with so many, TensorBoard begins with none of them ticked, and shows "
        f"nothing, in {tabs}.\n"
        "Tick some there, or press TOGGLE ALL RUNS. Or look at fewer runs:\n"
        f"  {words} last=20\n"
        f"  {words} best=20\n"
        "or at all of them on one page:\n"
        f"  {command_line('compare', folder, 'html=report.html')}"
    )


def _serve(folder: Path, port: int) -> None:
    from tensorboard import default
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
    from tensorboard.program import TensorBoard

    from gan.compare.hparams import VariedHParams

    known = default.get_plugins()
    plugins = [VariedHParams if plugin is HParamsPlugin else plugin for plugin in known]
    server = TensorBoard(plugins=plugins)
    flags = [f"--logdir={folder}", "--host=127.0.0.1", f"--port={port}", "--reload_interval=5"]
    # TensorBoard would show ten sample grids of a run. With a limit of 0 it shows none.
    flags += [f"--samples_per_plugin=images={MOST_GRIDS}"]
    server.configure(["", *flags])
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # The end of the terminal must not leave links behind.
        signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
    raise SystemExit(server.main())
