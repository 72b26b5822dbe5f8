"""Make room among runs: gan clean [DIR...] [keep=10] [older=7] [yes=true]

Lists what can go, and removes it with yes=true: checkpoints of finished runs that are not among the
`keep` best, failed runs, and runs that ended before anything was logged. Interrupted runs stay, as
they can go on. So do runs without a value of the measure, and everything that a process is working
in. At the end it says what takes up the disk, and how much of that can go.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gan.commands.command_line import run_command
from gan.commands.help import SORT_BEST, option
from gan.errors import UserError, printable

if TYPE_CHECKING:
    from gan.compare.frame import Table

DAY = 86400
"""Seconds in a day."""
KINDS = ("checkpoints", "failed", "empty")
"""Options that each stand for one kind of thing to remove."""


@dataclass
class Options:
    """Options of `gan clean`."""

    keep: int = option(10, "number of the best runs that keep their checkpoints")
    older: float = option(0.0, "only runs in which nothing has changed for so many days")
    sort: str | None = option(None, SORT_BEST)
    where: str | None = option(None, "condition on columns, as for compare")
    checkpoints: bool = option(
        True,
        "remove checkpoints of finished runs that are not among the best",
    )
    failed: bool = option(True, "remove failed runs")
    empty: bool = option(True, "remove runs that ended before anything was logged")
    yes: bool = option(False, "remove it, instead of only listing it")


def main() -> None:
    """Run the command line."""
    run_command(clean, Options)


def clean(paths: list[Path], options: Options) -> None:
    """List what can be removed, or remove it.

    Raises:
        UserError: there are no runs, or an option is wrong.
    """
    for name in ("keep", "older"):
        if not getattr(options, name) >= 0:
            raise UserError(f"{name}={getattr(options, name)}: must be at least 0")
    # pandas takes a second to import. Help and mistakes on the command line do not need it.
    from gan.compare import query
    from gan.compare.clean import disk_use, removals, remove
    from gan.compare.frame import read_table

    folders = paths or [Path("outputs")]
    runs = read_table(folders)
    if options.where is not None:
        runs = query.where(runs, options.where)
    removable = removals(
        runs,
        _measure(runs, options.sort),
        keep=options.keep,
        older=options.older * DAY,
        kinds=[kind for kind in KINDS if getattr(options, kind)],
    )
    size = count = 0
    for removal in removable:
        line = f"{removal.run_dir}: {removal.what}, {removal.size / 1e6:.1f} MB ({removal.reason})"
        print(printable(line))
        problem = remove(removal) if options.yes else None
        if problem:
            print(printable(problem), file=sys.stderr)
        else:
            size, count = size + removal.size, count + 1
    for note in runs.notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    sizes = disk_use(folders)
    uses = ", ".join(f"{use} {bytes_ / 1e6:.1f} MB" for use, bytes_ in sizes.items())
    where = ", ".join(map(str, folders))
    print(printable(f"disk use of {where}: {sum(sizes.values()) / 1e6:.1f} MB ({uses})"))
    verb = "removed" if options.yes else "to remove with yes=true"
    print(f"{count} of {len(runs.frame)} runs, {size / 1e6:.1f} MB {verb}")


def _measure(runs: "Table", sort: str | None) -> str:
    """Return the measure by which the best runs are kept.

    Raises:
        UserError: it does not measure runs, or nobody knows whether it is better high or low.
    """
    from gan.compare.query import ranking_measure, refuse_unknown_direction
    from gan.compare.rank import values_to_rank

    measure = ranking_measure(runs, sort)
    if sort is not None and sort != measure:
        raise UserError(f"sort={sort}: must be a measure, of which the best runs are kept")
    refuse_unknown_direction(runs, measure)
    for way in runs.ways_of(measure):
        values_to_rank(runs, way)
    return measure
