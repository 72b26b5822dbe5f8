"""Where runs are, below any directory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gan.errors import UserError
from gan.run.directory import CONFIG_FILE, OVERRIDES_FILE
from gan.run.result import RESULT_FILE
from gan.sweep import SWEEP_FILE


def find_runs(paths: Sequence[str | Path]) -> list[Path]:
    """The run directories at the paths and anywhere below them, each once, in order of name.

    Raises:
        UserError: a path is no directory, or there is no run at any of them.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise UserError(f"{path}: {'not a directory' if path.exists() else 'does not exist'}")
        found |= dict.fromkeys(sorted(_below(path)))
    if not found:
        where = ", ".join(map(str, paths)) or "no directory"
        raise UserError(
            f"no runs found in {where} or any folder below; a run's directory holds "
            f"{CONFIG_FILE} and {OVERRIDES_FILE}, as scripts/train.py writes them"
        )
    return list(found)


def _below(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = {entry.name: entry for entry in entries}
    except PermissionError:
        return
    # The copy of conf/ that a sweep keeps has files of the same names; a run that failed before
    # it could start has a result alone.
    if {CONFIG_FILE, OVERRIDES_FILE} <= names.keys() or RESULT_FILE in names:
        yield folder
        return
    for name, entry in names.items():
        copied = name == "conf" and SWEEP_FILE in names
        if entry.is_dir(follow_symlinks=False) and not name.startswith(".") and not copied:
            yield from _below(folder / name)
