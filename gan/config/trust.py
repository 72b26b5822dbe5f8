"""Rules for stored files, because a directory of runs may come from somebody else.

Numbers and texts in stored files are data. These can do more, and are written here as lines
`KEY=VALUE`: a target, which is called; a setting of a tracker, of a launcher or of Hydra, which may
name a server, a database or a shell command; a text in which an interpolation calls a resolver,
such as `${oc.env:TOKEN}`; a folder of YAML files, or a path to one. A line from a stored file
counts only if a config group of this installation has it too, or if this user has given it before,
for a run or a sweep of their own. The record of these is a file in the user's own folder, where a
directory from somebody else cannot write.
"""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gan.config.checks import is_under
from gan.config.schema import CONF_DIR, installed_folders
from gan.errors import UserError
from gan.system.files import YAML_LOADER

_POWERFUL = ("hydra", "logging.trackers")
"""Keys below which a text may name a server, a database, a file or a command."""
_HARMLESS = re.compile(
    r"hydra[./](sweeper|launcher)=[a-z_]+"
    r"|hydra\.(sweeper|launcher)\.(?!_target_|storage|address)\w+=[\w.+-]*"
    r"|hydra\.sweep\.dir=.*"
)
"""Overrides of Hydra's keys that a search needs. Its directory is given anew."""
_NO_OPTIONS = frozenset({"pyvenv.cfg", "provenance.json", "sweep.json"})
"""Files of which each shows that a folder is a virtual environment, a run or a sweep."""
_PLACES = ("--config-dir=", "--config-path=")

_given: set[str] = set()
"""Lines that this process was given, in case they cannot be recorded."""


def record_file() -> Path:
    """Return the file with the lines that this user has given, one on each line."""
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():
        # A user of a container may have no home. Nothing can be recorded below this file.
        folder = Path(os.devnull)
        with suppress(RuntimeError):
            folder = Path.home() / ".config"
    return folder / "gan-sweeps" / "trusted"


def powers(config: Any, prefix: str = "") -> Iterator[str]:
    """Yield a line for each value of plain data that can do more than to be a number or a text.

    Args:
        prefix: the dotted key of `config` itself, with a dot at its end.
    """
    for name, value in config.items():
        # An option of the group discriminator_optimizer may take one of the group optimizer.
        key = f"{prefix}{name}".removeprefix("discriminator_")
        if isinstance(value, dict):
            yield from powers(value, f"{key}.")
        elif value and isinstance(value, str | list):
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            named = key.rpartition(".")[2] == "_target_" or '"_target_"' in text
            if named or is_under(key, _POWERFUL) or _calls_resolver(text):
                yield _line(f"{key}={text}")


def word_powers(words: Iterable[str]) -> Iterator[str]:
    """Yield a line for each word of a command line that does more than to set a number or text."""
    for word in words:
        text = word.lstrip("+~")
        key = text.partition("=")[0].partition("@")[0]
        # The option of a config group is the path of a YAML file.
        is_path = ".." in text or ("." not in key and "${" in text)
        is_powerful = is_under(key.replace("/", "."), _POWERFUL) and not _HARMLESS.fullmatch(text)
        is_call = "_target_" in text or _calls_resolver(text)
        if word.startswith("-") or is_path or is_powerful or is_call:
            yield _line(text)


@cache
def folder_powers(folder: Path) -> tuple[str, ...]:
    """Return a line for each value of this kind in the YAML files below a folder."""
    paths = option_files(folder)
    found = (_file_powers(path, path.parent.relative_to(folder).parts) for path in paths)
    return tuple(itertools.chain.from_iterable(found))


def option_files(folder: Path) -> list[Path]:
    """Return the YAML files below a folder that may be options, in order.

    Hidden folders, virtual environments, runs and sweeps are left out: a folder of options may be
    that of a whole project.
    """
    found = []
    for place, folders, names in os.walk(folder):
        if place != str(folder) and not _NO_OPTIONS.isdisjoint(names):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if name.endswith(".yaml")]
    return sorted(found)


def trust(lines: Iterable[str]) -> None:
    """Record lines that this user has given."""
    new = [line for line in dict.fromkeys(lines) if line not in _given and line not in _installed()]
    _given.update(new)
    file = record_file()
    # Where nothing can be recorded, a later process asks.
    with suppress(OSError):
        if new := [line for line in new if line not in _recorded()]:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a+b") as opened:
                # A line that somebody added by hand may lack its end.
                opened.seek(max(0, opened.tell() - 1))
                gap = b"" if opened.read() in (b"", b"\n") else b"\n"
                opened.write(gap + "".join(f"{line}\n" for line in new).encode())


def refuse_untrusted(where: str | Path, lines: Iterable[str]) -> None:
    """Refuse a stored file for the first line that this user has not given.

    Args:
        where: names the file or the directory.

    Raises:
        UserError: says how to allow it.
    """
    for line in untrusted(lines):
        raise UserError(
            f"{where}: holds {line}, which no config group of this installation names and you "
            f"have not used before; if you trust it, add the line {line} to {record_file()}"
        )


def untrusted(lines: Iterable[str]) -> list[str]:
    """Return those lines that neither this installation nor this user has given.

    A relative folder is never among the given ones: it is another one somewhere else.
    """
    unknown = [line for line in dict.fromkeys(lines) if line not in _installed()]
    unknown = [line for line in unknown if line not in _given or _is_relative(line)]
    recorded = _recorded() if unknown else set()
    return [line for line in unknown if line not in recorded or _is_relative(line)]


def refuse_untrusted_copies(folder: Path) -> None:
    """Refuse copies of YAML files in a sweep's directory that hold lines which nobody here gave.

    Raises:
        UserError: names the first of them, or a link, which may lead anywhere.
    """
    originals = _installed_folders()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise UserError(f"{path}: is a link, and a sweep keeps copies of YAML files")
        name = Path(*path.relative_to(folder).parts[1:])
        if path.suffix == ".yaml" and not any(_is_same(path, root / name) for root in originals):
            refuse_untrusted(path, _file_powers(path, name.parent.parts))


def _file_powers(path: Path, folders: tuple[str, ...]) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, YAML_LOADER)
        if not isinstance(values, dict):
            # Hydra takes no such file.
            return
        listed = json.dumps(values.pop("defaults", []), default=str)
        header = re.search(r"^#\s*@package\s+(\S+)", text, re.MULTILINE)
        package = header[1] if header else ".".join(folders)
        found = [*powers(values, "" if package in ("_global_", "") else f"{package}.")]
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        yield f"{path.name}, which cannot be read"
        return
    # Hydra would read a file outside of the copies.
    if ".." in listed or "//" in listed:
        yield _line(f"defaults={listed}")
    yield from found


def _is_same(copy: Path, original: Path) -> bool:
    return original.is_file() and copy.read_bytes() == original.read_bytes()


def _calls_resolver(text: str) -> bool:
    """Return whether a text may hold an interpolation that calls a function."""
    return ":" in text.partition("${")[2]


def _is_relative(line: str) -> bool:
    return line.startswith(_PLACES) and not Path(line.partition("=")[2]).is_absolute()


def _line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _recorded() -> set[str]:
    try:
        return {*record_file().read_text(encoding="utf-8").splitlines()}
    except (OSError, ValueError):
        return set()


def _installed_folders() -> list[Path]:
    return [CONF_DIR, *filter(None, installed_folders().values())]


@cache
def _installed() -> frozenset[str]:
    """Return the lines that the config groups of this installation have."""
    return frozenset(line for folder in _installed_folders() for line in folder_powers(folder))
