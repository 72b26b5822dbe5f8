"""Compare runs: python scripts/compare.py [DIR...] [sort=lenet_fid] [where="lr<1e-3"] [group=seed]

Takes directories of runs, of sweeps, or of both at any depth; outputs/ if none is given. Prints a
table on a terminal and CSV elsewhere, unless format=table, csv, json, markdown or latex says which.

sort=NAME       sort by any column, metrics best first; sort=-NAME turns the order around
where=...       only runs that match: where='lr < 1e-3 and status == "completed"'
columns=A,B     show these columns, or any other keys of the configuration
last=20         only the newest runs
group=seed      medians over runs that differ in nothing else, ranked, with ties

html=FILE writes a page with all of it, and curves, heat maps and samples beside: one file that
needs no server and no network. png=DIR writes curves, ranking and heat map as pictures.

With the word `best`, prints the command line that repeats the best of these runs, or writes it as
an experiment: python scripts/compare.py DIR best export=conf/experiment/NAME.yaml
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.commands.command_line import run_command
from gan.errors import UserError

if TYPE_CHECKING:
    from gan.compare.frame import Table

BEST = Path("best")
"""A word among the paths that asks for the command line of the best run."""


@dataclass
class Options:
    """Options of `scripts/compare.py`."""

    sort: str | None = None
    where: str | None = None
    group: str | None = None
    columns: str | None = None
    last: int | None = None
    format: str = "auto"
    export: str | None = None
    html: str | None = None
    png: str | None = None


def main() -> None:
    """Run the command line."""
    run_command(compare, Options)


def compare(paths: list[Path], options: Options) -> None:
    """Print or write a comparison of runs, or how to repeat the best one.

    Raises:
        UserError: there are no runs, an option is wrong, or a file cannot be written.
    """
    if options.last is not None and options.last < 1:
        raise UserError(f"last={options.last}: must be at least 1")
    folders = [path for path in paths if path != BEST]
    if options.export is not None and BEST not in paths:
        raise UserError(
            f"export={options.export}: of which run? python scripts/compare.py DIR best"
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
    runs = query.ordered(runs, options.sort or runs.objective)
    if BEST in paths:
        _repeat_best(runs, options)
    elif options.html is not None:
        from gan.compare.page import write_page

        write_page(runs, Path(options.html), ", ".join(map(str, folders)) or "outputs")
        print(options.html)
    elif options.png is not None:
        # Needs matplotlib, which takes another second.
        from gan.compare.figures import write_figures

        metric = query.ranking_metric(runs, options.sort)
        print(*write_figures(runs, Path(options.png), metric), sep="\n")
    elif options.group is None:
        columns = options.columns.split(",") if options.columns else []
        table.print_runs(runs, options.format, columns)
    else:
        metric = query.ranking_metric(runs, options.sort)
        table.print_ranking(rank(runs, options.group, metric), options.format)


def _repeat_best(runs: "Table", options: Options) -> None:
    from gan.compare import query, repeat

    metric = query.ranking_metric(runs, options.sort)
    best = repeat.best_run(runs, metric)
    value = runs.column(metric).loc[runs.runs.index(best)]
    print(f"{best.path}: {metric} {value:.4g}", file=sys.stderr)
    if options.export is None:
        words, remarks = repeat.command(best)
        print(shlex.join(words))
    else:
        remarks = repeat.export(best, Path(options.export))
        print(options.export)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
