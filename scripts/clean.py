"""Make room among runs: python scripts/clean.py [DIR...] [keep=10] [older=7] [yes=true]

Lists what can go, and removes it with yes=true: checkpoints of finished runs that are not among the
`keep` best, runs that failed, and runs that ended before anything was logged. Nothing is touched
that a process is at work in, nor interrupted runs, which can go on.

keep=10          runs that keep their checkpoints, by sort=NAME or their objective
older=0          days in which nothing of the run changed
checkpoints=false, failed=false, empty=false leave these alone
where=...        runs for which this holds, as in scripts/compare.py
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from gan.commands.command_line import script
from gan.errors import UserError

DAY = 86400
KINDS = ("checkpoints", "failed", "empty")


@dataclass
class Options:
    keep: int = 10
    older: float = 0.0
    sort: str | None = None
    where: str | None = None
    checkpoints: bool = True
    failed: bool = True
    empty: bool = True
    yes: bool = False


def clean(paths: list[Path], options: Options) -> None:
    for name in ("keep", "older"):
        if not getattr(options, name) >= 0:
            raise UserError(f"{name}={getattr(options, name)}: must be at least 0")
    from gan.compare import query
    from gan.compare.clean import removals, remove
    from gan.compare.frame import read_table

    runs = read_table(paths or [Path("outputs")])
    if options.where is not None:
        runs = query.where(runs, options.where)
    found = removals(
        runs,
        query.measure(runs, options.sort),
        keep=options.keep,
        older=options.older * DAY,
        kinds=[kind for kind in KINDS if getattr(options, kind)],
    )
    size = count = 0
    for removal in found:
        what = "checkpoints" if len(removal.paths) == 1 else "all"
        print(f"{removal.run_dir}: {what}, {removal.size / 1e6:.1f} MB ({removal.reason})")
        left = remove(removal) if options.yes else None
        if left:
            print(left, file=sys.stderr)
        else:
            size, count = size + removal.size, count + 1
    verb = "removed" if options.yes else "to remove with yes=true"
    print(f"{count} of {len(runs.frame)} runs, {size / 1e6:.1f} MB {verb}")


if __name__ == "__main__":
    script(clean, Options)
