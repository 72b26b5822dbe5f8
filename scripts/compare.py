"""Compare runs: python scripts/compare.py [DIR...] [sort=lenet_fid] [where="lr<1e-3"] [group=seed]

Takes directories of runs, of sweeps, or of both at any depth; outputs/ if none is given. Prints a
table on a terminal and CSV elsewhere, unless format=table, csv, json, markdown or latex says which.

sort=NAME       by any column, metrics best first; sort=-NAME the other way round
where=...       runs for which this holds: where='lr < 1e-3 and status == "completed"'
columns=A,B     these columns, or any other keys of the configuration
last=20         the newest runs
group=seed      medians over runs that differ in nothing else, ranked, with ties
"""

from dataclasses import dataclass
from pathlib import Path

from gan.cli import script
from gan.errors import UserError


@dataclass
class Options:
    sort: str | None = None
    where: str | None = None
    group: str | None = None
    columns: str | None = None
    last: int | None = None
    format: str = "auto"


def compare(paths: list[Path], options: Options) -> None:
    if options.last is not None and options.last < 1:
        raise UserError(f"last={options.last}: must be at least 1")
    from gan.compare import query, table
    from gan.compare.frame import read_table
    from gan.compare.rank import rank

    runs = read_table(paths or [Path("outputs")])
    if options.where is not None:
        runs = query.where(runs, options.where)
    if options.last is not None:
        runs = query.newest(runs, options.last)
    runs = query.ordered(runs, options.sort or runs.objective)
    if options.group is None:
        columns = options.columns.split(",") if options.columns else []
        table.print_runs(runs, options.format, columns)
    else:
        metric = query.measure(runs, options.sort)
        table.print_ranking(rank(runs, options.group, metric), options.format)


if __name__ == "__main__":
    script(compare, Options)
