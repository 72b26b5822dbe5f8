"""Provenance: the code and the packages that a run is made with, in the file provenance.json.

Environment variables are not kept, nor addresses of repositories: they may hold secrets.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from gan.config.checks import defines_result
from gan.distributed.processes import current_processes
from gan.run.directory import has_history
from gan.system.files import read_text, write_bytes, write_text

log = logging.getLogger(__name__)

PROVENANCE_FILE = "provenance.json"
DIFF_FILE = "uncommitted.diff"
LARGEST_DIFF = 1_000_000
"""Bytes of uncommitted changes that a run keeps."""
MOST_UNTRACKED = 200
"""Names of untracked files that a run keeps."""
ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("torch", "torchvision", "numpy")
"""Packages whose version says which code they have, and whose distributions have the same name."""


class Repository(NamedTuple):
    """The state of a git repository."""

    root: Path
    commit: str
    dirty: bool
    diff: bytes
    """The uncommitted changes of tracked files, cut at LARGEST_DIFF."""
    untracked: list[str]

    def summary(self) -> dict[str, Any]:
        """Return the commit, and whether anything differs from it."""
        return {"commit": self.commit, "dirty": self.dirty}


def note_start(
    run_dir: Path, config: Mapping[str, Any], choices: Mapping[str, str] | None
) -> dict[str, Any]:
    """Note in a run's directory what this process trains it with, and return the whole note.

    A resumed run adds a start where something differs from its last one.

    Args:
        config: the run's configuration with dotted keys.
        choices: the chosen options of the config groups, of a new run.

    Returns:
        The run's `id`, its `choices`, and its `starts`.
    """
    note = read_provenance(run_dir)
    if note is None:
        path = run_dir / PROVENANCE_FILE
        if path.exists() or has_history(run_dir):
            log.warning("%s: is missing or damaged; a new one knows no earlier starts", path)
        note = {"id": secrets.token_hex(8), "choices": {}, "starts": []}
    if choices and not note["starts"]:
        note["choices"] = dict(choices)
    start = _start(config)
    last = note["starts"][-1] if note["starts"] else {}
    if (processes := current_processes()) or "processes" in last:
        start["processes"] = processes.size if processes else 1
    for name, then, now in _changed_code(last, start):
        log.warning("%s: the code of %s changed since (%s, now %s)", run_dir, name, then, now)
    if any(last.get(name) != value for name, value in start.items() if name != "diff"):
        own = own_repository()
        if own and own.diff:
            number = len(note["starts"]) + 1
            start["diff"] = DIFF_FILE if number == 1 else f"uncommitted-{number}.diff"
            write_bytes(run_dir / start["diff"], own.diff)
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        note["starts"].append({"time": now, **start})
        write_text(run_dir / PROVENANCE_FILE, json.dumps(note, indent=1) + "\n")
    return note


def note_extension(run_dir: Path, note: dict[str, Any], length: Mapping[str, Any]) -> None:
    """Note that a run gets another length.

    Args:
        note: what `note_start` returned; the length is added to it.
        length: the present length, and the `step` after which the run goes on.
    """
    note["extended"] = [*extensions(note, length), dict(length)]
    write_text(run_dir / PROVENANCE_FILE, json.dumps(note, indent=1) + "\n")


def extensions(note: Mapping[str, Any], length: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the earlier lengths of a run, each with the `step` after which it got another one.

    Args:
        length: the present length.
    """
    earlier: list[dict[str, Any]] = list(note.get("extended", []))
    # A process that was killed has noted another length and has not written it.
    if earlier and all(
        earlier[-1].get(key) == length.get(key) for key in ("max_steps", "max_epochs")
    ):
        earlier.pop()
    return earlier


def read_provenance(run_dir: Path) -> dict[str, Any] | None:
    """Return the content of provenance.json; None where it cannot be read."""
    try:
        note = json.loads(read_text(run_dir / PROVENANCE_FILE))
        is_whole = (
            re.fullmatch(r"[0-9a-f]{16}", note["id"])
            and isinstance(note["starts"], list)
            and "choices" in note
        )
        return note if is_whole else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None


@cache
def own_repository() -> Repository | None:
    """Return the state of this package's repository; None for an installed copy."""
    repository = _repository(ROOT)
    # An installed copy may lie inside the checkout of another project.
    return repository if repository and repository.root == ROOT else None


def code_hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of the Python files of each package that decides a result with its parts.

    This package is left out, whose commit is known, and so are LIBRARIES.

    Args:
        config: a configuration with dotted keys.
    """
    deciding = {key: value for key, value in config.items() if defines_result(key)}
    packages = {name: _package(name) for name in _outside_packages(deciding)}
    return {name: found["code"] for name, found in packages.items() if "code" in found}


def _outside_packages(config: Mapping[str, Any]) -> list[str]:
    targets = [str(value) for key, value in config.items() if value and key.endswith("._target_")]
    return sorted({target.partition(".")[0] for target in targets} - {"gan"})


def _changed_code(
    last: Mapping[str, Any], start: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Yield each package whose code changed from one start to the next, with both hashes."""
    before = last.get("targets", {})
    for name, found in start["targets"].items():
        then, now = before.get(name, {}).get("code"), found.get("code")
        if then and now and then != now:
            yield name, then, now


def _start(config: Mapping[str, Any]) -> dict[str, Any]:
    own = own_repository()
    return {
        "python": platform.python_version(),
        "git": own.summary() if own else None,
        "untracked": own.untracked if own else [],
        "diff": None,
        "diff_hash": hashlib.sha256(own.diff).hexdigest()[:16] if own and own.diff else None,
        "targets": {name: _package(name) for name in _outside_packages(config)},
        "packages": _installed(),
    }


@cache
def _package(name: str) -> dict[str, Any]:
    """Return the version of a top-level package or module, a hash of its code, and the state of
    its checkout."""
    found: dict[str, Any] = {}
    # To look for the distribution of a package takes longer than all else here.
    for distribution in [name] if name in LIBRARIES else _distributions().get(name, []):
        found["version"] = importlib.metadata.version(distribution)
    spec = None
    # A notebook, `__main__`, has no such description.
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
    places = [*(spec.submodule_search_locations or []), spec.origin] if spec else []
    place = Path(places[0]).resolve() if places and places[0] else Path()
    if places and name not in LIBRARIES and (code := _hash_code(place)):
        found["code"] = code
    if place.is_absolute() and not {"site-packages", "dist-packages"} & set(place.parts):
        folder = place if place.is_dir() else place.parent
        # A virtual environment may lie inside a checkout that ignores it.
        if _git(folder, "check-ignore", str(place)) is None and (state := _repository(folder)):
            found |= state.summary()
    return found


def _hash_code(place: Path) -> str | None:
    """Return a hash of the Python files in a folder, or of one file; None where there are none."""
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    digest = hashlib.sha256()
    for path in files:
        # A file may vanish while a folder is read, and an extension module is no text.
        with suppress(OSError):
            digest.update(os.fsencode(f"{path.relative_to(place).as_posix()}\n"))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16] if files and place.is_absolute() else None


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


@cache
def _installed() -> list[str]:
    """Return every installed package and its version, as `pip freeze` does."""
    # Every look at a name or a version reads the whole file.
    files = [distribution.metadata for distribution in importlib.metadata.distributions()]
    return sorted({f"{file['Name']}=={file['Version']}" for file in files}, key=str.lower)


@cache
def _repository(folder: Path) -> Repository | None:
    """Return the state of the repository that a folder lies in; None where there is none."""
    head = _git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if head is None:
        return None
    root, commit = os.fsdecode(head).splitlines()
    status = (_git(folder, "status", "--porcelain") or b"").decode(errors="replace").splitlines()
    untracked = [line[3:] for line in status if line.startswith("??")]
    diff = b""
    if len(untracked) < len(status):
        diff = _git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff", "--no-textconv") or b""
    if len(diff) > LARGEST_DIFF:
        cut = f"\n... cut here, after {LARGEST_DIFF} of {len(diff)} bytes\n"
        diff = diff[:LARGEST_DIFF] + cut.encode()
    return Repository(Path(root).resolve(), commit, bool(status), diff, untracked[:MOST_UNTRACKED])


def _git(folder: Path, *arguments: str) -> bytes | None:
    """Return the output of git; None where it fails or is not installed."""
    # Without optional locks, git may run in many processes at once.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
