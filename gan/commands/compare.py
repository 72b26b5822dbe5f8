"""Compare runs: gan compare [DIR...] [sort=lenet_fid] [where="lr<1e-3"] [group=seed]

Takes directories of runs, of sweeps, or of both at any depth; outputs/ if none is given. Prints a
table, best run first, unless an option asks for something else:

    gan compare outputs where='lr < 1e-3 and status == "completed"' sort=seconds last=20
    gan compare SWEEP_DIR group=seed
    gan compare SWEEP_DIR html=report.html

Two groups of runs are compared over the seeds that they share, by the names of their values or by
their directories: gan compare SWEEP_DIR recipe=lab versus recipe=wgan_gp

html=FILE writes a page with all of it, and curves, heat maps and samples beside: one file that
needs no server and no network. png=DIR writes curves, ranking and heat map as pictures.

With the word `check`, compares runs of an experiment with the numbers that its file states, and
ends with 1 if one does not hold: gan compare SWEEP_DIR check

With the word `best`, prints the command line that repeats the best of these runs, or writes it as
an experiment: gan compare DIR best export=conf/experiment/NAME.yaml. With group=seed, it prints the
sweep that repeats the best point with each of its seeds.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.commands.command_line import run_command, unknown_option
from gan.commands.help import option
from gan.errors import UserError, printable
from gan.system.invocation import command_line

if TYPE_CHECKING:
    from gan.compare.frame import Table

BEST = Path("best")
"""A word among the paths that asks for the command line of the best run."""

CHECK = Path("check")
"""A word among the paths that asks for a check against the numbers that an experiment states."""

VERSUS = Path("versus")
"""A word between two groups of runs that asks for their comparison."""


@dataclass
class Options:
    """Options of `gan compare`."""

    sort: str | None = option(
        None,
        "column to sort by, metrics best first; -NAME turns the order around; null takes the "
        "objective",
    )
    where: str | None = option(
        None,
        "condition on columns: comparisons, arithmetic, and, or, not, in",
    )
    group: str | None = option(
        None,
        "rank medians over runs that differ only in these columns, such as seed",
    )
    columns: str | None = option(
        None,
        "columns or keys of the configuration to show, separated by commas",
    )
    last: int | None = option(None, "only so many of the newest runs")
    format: str = option(
        "auto",
        "table, csv, json, markdown or latex; auto is a table on a terminal and CSV elsewhere",
    )
    export: Path | None = option(
        None,
        "with best: write the best run as an experiment to this YAML file",
    )
    html: Path | None = option(
        None,
        "write a page with tables, curves, heat maps and samples to this file",
    )
    png: Path | None = option(None, "write curves, ranking and heat map as pictures to this folder")


def main() -> None:
    """Run the command line."""
    run_command(compare, Options, names=True)


def compare(paths: list[Path], options: Options) -> None:
    """Print or write a comparison of runs or of two groups, or how to repeat the best one.

    Raises:
        UserError: there are no runs, an option is wrong, or a file cannot be written.
    """
    if options.last is not None and options.last < 1:
        raise UserError(f"last={options.last}: must be at least 1")
    _refuse_ignored(paths, options)
    sides = _sides(paths)
    folders = [path for path in paths if path not in (BEST, CHECK, VERSUS)]
    if sides:
        folders = [path for path in folders if path.is_dir()]
    for path in folders:
        if "=" in path.name and not path.exists():
            raise unknown_option(str(path), Options)
    if options.export is not None and BEST not in paths:
        raise UserError(
            f"export={options.export}: of which run? {command_line('compare')} DIR best"
        )
    # pandas takes a second to import. Help and mistakes on the command line do not need it.
    from gan.compare import query, table
    from gan.compare.frame import read_table
    from gan.compare.rank import rank

    runs = read_table(folders or [Path("outputs")])
    if options.where is not None:
        runs = query.where(runs, options.where)
    if options.last is not None:
        runs = query.newest(runs, options.last)
    runs = query.ordered(runs, options.sort or query.ranking_measure(runs, None))
    if BEST in paths:
        _repeat_best(runs, options)
        return
    if CHECK in paths:
        _check_expected(runs, options)
        return
    if sides:
        from gan.compare.versus import versus

        metric = query.ranking_metric(runs, options.sort)
        table.print_versus(versus(runs, sides, metric), options.format)
    elif options.html is not None:
        from gan.compare.page import write_page

        write_page(runs, options.html, ", ".join(map(str, folders)) or "outputs")
        print(options.html)
    elif options.png is not None:
        # Needs matplotlib, which takes another second.
        from gan.compare.figures import write_figures

        metric = query.ranking_metric(runs, options.sort)
        print(*write_figures(runs, options.png, metric), sep="\n")
    elif options.group is None:
        # A comma in brackets is a part of a name, as in lenet_fid[samples=600,split=test].
        names = re.split(r",(?![^\[]*\])", options.columns or "")
        columns = [name.strip() for name in names if name.strip()]
        table.print_runs(runs, options.format, columns)
    else:
        metric = query.ranking_metric(runs, options.sort)
        table.print_ranking(rank(runs, options.group, metric), options.format)
    _print_notes(runs)


def _refuse_ignored(paths: list[Path], options: Options) -> None:
    """Refuse words and options of which one would decide and the others do nothing."""
    asked = [str(word) for word in (BEST, CHECK, VERSUS) if word in paths]
    asked += [
        f"{name}={getattr(options, name)}" for name in ("html", "png") if getattr(options, name)
    ]
    if len(asked) > 1:
        raise UserError(f"{' '.join(asked)}: give one of them")
    if asked:
        deciding = asked[0]
        known = {"best": ["group"], "check": ["format"], "versus": ["format"]}.get(deciding, [])
    elif options.group:
        deciding, known = f"group={options.group}", ["group", "format"]
    else:
        return
    for name in ("group", "columns", "format"):
        value = getattr(options, name)
        if name not in known and value != getattr(Options, name):
            raise UserError(f"{name}={value}: has no effect with {deciding}; leave out one of both")


def _print_notes(runs: "Table") -> None:
    for note in runs.notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def _sides(paths: list[Path]) -> tuple[list[str], list[str]] | None:
    """Return the words of the two groups that are to be compared, if any are.

    The word `versus` stands between them. It may be left out between two words that are no paths.
    """
    if VERSUS in paths:
        at = paths.index(VERSUS)
        first, second = paths[:at], paths[at + 1 :]
        if not any(path.is_dir() for path in second):
            # Directories on the left alone are where both groups are.
            first = [path for path in first if not path.is_dir()]
        if not first or not second:
            raise UserError("versus: stands between two groups, such as lr=1e-4 versus lr=2e-4")
        return [*map(str, first)], [*map(str, second)]
    if BEST in paths or CHECK in paths:
        return None
    names = [str(path) for path in paths if not path.exists()]
    return ([names[0]], [names[1]]) if len(names) == 2 else None


def _check_expected(runs: "Table", options: Options) -> None:
    """Print what became of the expected numbers, and end with 1 if one does not hold."""
    from gan.compare import expected, table

    outcomes = expected.check(runs)
    table.print_outcomes(expected.as_frame(outcomes), options.format)
    _print_notes(runs)
    if any(outcome.fault for outcome in outcomes):
        raise SystemExit(1)


def _repeat_best(runs: "Table", options: Options) -> None:
    from gan.compare import repeat
    from gan.compare.rank import best_first, rank

    metric, runs = best_first(runs, options.sort)
    # They tell of damaged files, which may be why the best run cannot be repeated.
    _print_notes(runs)
    if options.group is not None:
        if options.export is not None:
            raise UserError(f"export={options.export}: an experiment is one run; leave out group=")
        point, line = repeat.best_point(rank(runs, options.group, metric), runs)
        print(printable(line), file=sys.stderr)
        lines, remarks = repeat.point_commands(point)
        print(*map(shlex.join, lines), sep="\n")
    else:
        best = repeat.best_run(runs, metric)
        value = runs.column(metric).loc[runs.runs.index(best)]
        print(f"{printable(best.path)}: {metric} {value:.4g}", file=sys.stderr)
        if kept := repeat.kept_checkpoint(best):
            print(printable(kept), file=sys.stderr)
        if options.export is None:
            words, remarks = repeat.command(best)
            print(shlex.join(words))
        else:
            remarks = repeat.export(best, options.export)
            print(options.export)
    for remark in remarks:
        print(f"note: {printable(remark)}", file=sys.stderr)
