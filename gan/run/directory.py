"""The directory of one run: which process works in it, and which configuration it belongs to."""

import logging
import re
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout
from omegaconf import DictConfig, OmegaConf

from gan.config.checks import as_config, as_yaml, flatten, identifies_run, plain
from gan.config.overrides import as_override, escaped
from gan.config.paths import moved_data
from gan.config.trust import powers, refuse_untrusted, trust, word_powers
from gan.errors import Busy, UserError
from gan.run import SWEEP_FILE
from gan.system.files import read_text, remove_leftovers, write_text
from gan.system.invocation import command_line
from gan.system.locks import LOOK_SECONDS, is_locked, lock_at, way_to_free

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
OVERRIDES_FILE = "overrides.yaml"
METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "result.json"
LOG_FILE = "train.log"
LOCK_FILE = ".lock"
CHECKPOINTS = "checkpoints"
"""The name of the folder of checkpoints."""
SAMPLES = "samples"
"""The name of the folder of sample pictures."""
REAL_FILE = "real.png"
"""Real samples in the folder of sample pictures, in the same arrangement."""
LENGTH = ("trainer.max_steps", "trainer.max_epochs")
"""Keys of the length of a run: one of them is a number, and the other null."""
EVALUATION_FILES = "metrics-*.json"
"""The pattern of the names of the files that `gan evaluate` writes."""
EVENT_FILES = "events.out.tfevents.*"
"""The pattern of the names of TensorBoard's event files."""
CHECKSUM = "# The lines below have the CRC-32 "
"""The beginning of the first line of a YAML file. Earlier versions wrote no such line."""
LAST_KEYS = ("seed", "threads", "name")
"""Keys that stand at the end of every configuration, so that one that was cut off lacks some."""
ROUNDING = {"threads": 1, "matmul": "default"}
"""Keys that rounding depends on and that a resumed run keeps, with their values in runs of earlier
versions, which lack some of them."""
WRITTEN = (
    CONFIG_FILE,
    OVERRIDES_FILE,
    METRICS_FILE,
    RESULT_FILE,
    LOG_FILE,
    "provenance.json",
    "uncommitted*.diff",
    EVENT_FILES,
    EVALUATION_FILES,
    f"{SAMPLES}/{REAL_FILE}",
    f"{SAMPLES}/step-*.png",
    "checkpoints/step-*.pt",
    "checkpoints/best-*.pt",
    "profile/*.pt.trace.json",
)
"""Patterns of the files that a run writes, beside its lock."""


@contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Make the directory and keep other processes out of it.

    What a killed process was writing is removed first. A directory that is empty at the end is
    removed, unless it was so before. A process that dies frees its lock.

    Raises:
        Busy: another process works in the directory.
        UserError: see `refuse_links`.
    """
    created = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    was_empty = run_dir.is_dir() and not any(run_dir.iterdir())
    run_dir.mkdir(parents=True, exist_ok=True)
    refuse_links(run_dir)
    lock = lock_at(run_dir / LOCK_FILE)
    try:
        lock.acquire(timeout=LOOK_SECONDS)
    except Timeout:
        what = "another process is at work in this run directory"
        raise Busy(f"{run_dir}: {what}{way_to_free(lock)}") from None
    try:
        _remove_leftovers(run_dir)
        yield
    finally:
        if not (run_dir / CONFIG_FILE).exists() and not has_history(run_dir):
            for name in (LOCK_FILE, OVERRIDES_FILE):
                (run_dir / name).unlink(missing_ok=True)
        lock.release()
        if not was_empty:
            remove_empty(run_dir, *created)


def _remove_leftovers(run_dir: Path) -> None:
    """Remove what a killed process was writing of a run.

    Samples, exports and evaluations may be written here at the same time, by other processes.
    """
    written = [pattern for pattern in WRITTEN if pattern != EVALUATION_FILES]
    for name in {pattern.rpartition("/")[0] for pattern in written}:
        if (folder := run_dir / name).is_dir() and not folder.is_symlink():
            is_own = partial(_matches, written, f"{name}/" if name else "")
            remove_leftovers(folder, is_own=is_own)


def _matches(patterns: Sequence[str], begin: str, name: str) -> bool:
    return any(fnmatch(begin + name, pattern) for pattern in patterns)


def refuse_links(run_dir: Path) -> None:
    """Refuse a run directory in which something that a run writes is a link.

    Raises:
        UserError: names the link. A run would write or delete where it leads to.
    """
    names = {pattern.partition("/")[0] for pattern in WRITTEN} | {LOCK_FILE, "wandb"}
    for path in run_dir.iterdir():
        if path.is_symlink() and any(fnmatch(path.name, name) for name in names):
            refuse_link(path)
    for path in (run_dir / "profile").glob("*"):
        refuse_link(path)


def refuse_link(path: Path) -> None:
    """Refuse a path that is a symbolic link.

    Raises:
        UserError: it is one.
    """
    if path.is_symlink():
        raise UserError(
            f"{path}: is a link, and nothing outside of its directory is written or deleted; put "
            "the file or folder itself there"
        )


def in_use(run_dir: Path) -> bool:
    """Return whether a process works in a directory."""
    return is_locked(run_dir / LOCK_FILE)


def sweep_name(run_dir: Path) -> str | None:
    """Return the name of the sweep that a run belongs to; None outside sweeps."""
    folder = run_dir.resolve().parent
    return folder.name if (folder / SWEEP_FILE).exists() else None


def remove_empty(*folders: Path) -> None:
    """Remove those folders that are empty, one after the other."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def has_history(run_dir: Path) -> bool:
    """Return whether a run was trained here: there are checkpoints or records."""
    metrics = run_dir / METRICS_FILE
    has_checkpoints = any((run_dir / CHECKPOINTS).glob("step-*.pt"))
    return has_checkpoints or (metrics.exists() and metrics.stat().st_size > 0)


def read_config(run_dir: Path) -> DictConfig:
    """Return the resolved configuration of a run.

    Raises:
        UserError: the directory is not a run directory, or its configuration is damaged.
    """
    path = run_dir / CONFIG_FILE
    if not path.exists():
        if has_history(run_dir):
            raise UserError(f"{path}: is missing, and the run cannot go on without it; restore it")
        raise UserError(f"{run_dir}: not a run directory, it has no {CONFIG_FILE}")
    config = _read_yaml(path)
    if not isinstance(config, dict) or not all(key in config for key in LAST_KEYS):
        raise UserError(f"{path}: is damaged; restore it")
    return as_config(config)


def read_trusted_config(run_dir: Path) -> DictConfig:
    """Return the resolved configuration of a run, to build what it names.

    Raises:
        UserError: the directory is not a run directory, or names something that this user does not
            know. Nothing of it was imported or resolved.
    """
    cfg = read_config(run_dir)
    refuse_untrusted(run_dir / CONFIG_FILE, powers(plain(cfg)))
    return cfg


def read_overrides(run_dir: Path) -> list[str]:
    """Return the command line's overrides that a run began with.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = run_dir / OVERRIDES_FILE
    if not path.exists():
        raise UserError(f"{path}: is missing; restore it")
    overrides = _read_yaml(path)
    if not isinstance(overrides, list):
        raise UserError(f"{path}: is damaged; restore it")
    return [str(override) for override in overrides]


def is_changed(text: str) -> bool:
    """Return whether the text of a YAML file is not the one that its first line was made for."""
    first, _, rest = text.partition("\n")
    return first.startswith(CHECKSUM) and not first.startswith(_checksum_line(rest))


def store_config(
    run_dir: Path,
    cfg: DictConfig,
    overrides: Sequence[str],
    choose_rounding: Callable[[], dict[str, Any]],
) -> DictConfig:
    """Save the configuration of a new run; leave that of an old one as it is.

    Args:
        choose_rounding: returns the keys of ROUNDING for a new run, and others that it decides.

    Returns:
        `cfg` with the values that the run began with.
    """
    is_new = not (run_dir / CONFIG_FILE).exists()
    if is_new:
        rounding = choose_rounding()
    else:
        _restore_overrides(run_dir, overrides)
        begun = read_config(run_dir)
        rounding = {key: begun.get(key, first) for key, first in ROUNDING.items()}
        if cfg.trainer.compile == "auto":
            rounding["trainer"] = {"compile": begun.trainer.compile}
    stored = OmegaConf.merge(cfg, rounding)
    assert isinstance(stored, DictConfig)
    if is_new:
        # Whoever begins a run has chosen what it calls.
        trust([*powers(plain(stored)), *word_powers(overrides)])
        _write_yaml(run_dir / OVERRIDES_FILE, _overrides_text(overrides))
        _write_yaml(run_dir / CONFIG_FILE, as_yaml(stored))
    return stored


def refuse_other_config(run_dir: Path, cfg: DictConfig, free: Container[str] = ()) -> None:
    """Refuse to continue a run with a configuration that would give another result.

    Args:
        free: keys that may differ all the same.

    Raises:
        UserError: names the first key that differs, or the run's configuration cannot be read.
    """
    if not (run_dir / CONFIG_FILE).exists() and not has_history(run_dir):
        return
    old, new = flatten(read_config(run_dir)), flatten(cfg)
    moved = moved_data(old, new)
    for name in old | new:
        if not identifies_run(name) or name in moved or name in free:
            continue
        if old.get(name) != new.get(name):
            way = "the same configuration to continue it"
            if name in LENGTH and new.get(name) is not None:
                longer = command_line("resume", run_dir, f"{name}={new[name]}")
                way = f"give it another length: {longer}"
            raise UserError(
                f"{run_dir}: its run has {name}={old.get(name)}, not {new.get(name)}; "
                f"choose another hydra.run.dir, or {way}"
            )


def _checksum_line(text: str) -> str:
    return f"{CHECKSUM}{zlib.crc32(text.encode()):08x}"


def _write_yaml(path: Path, text: str) -> None:
    note = "; remove this line if you change them"
    write_text(path, f"{_checksum_line(text)}{note}\n{text}")


def _read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UserError: it is damaged.
    """
    try:
        text = read_text(path)
        if is_changed(text):
            reason = "its first line has the checksum of another content"
            raise UserError(f"{path}: is damaged; restore it ({reason})")
        return yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is damaged; restore it") from error


def _overrides_text(overrides: Sequence[str]) -> str:
    # Not by OmegaConf, which would take `${x}` in an override for an interpolation.
    return str(yaml.safe_dump(list(overrides), allow_unicode=True))


def _restore_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Write the overrides of a run again if their file is damaged and they are known."""
    path = run_dir / OVERRIDES_FILE
    try:
        read_overrides(run_dir)
    except UserError:
        if overrides:
            _write_yaml(path, _overrides_text(overrides))
        what = (
            "it is written again" if overrides else "restore it, or give the command line once more"
        )
        log.warning("%s: was missing or damaged; %s", path, what)


def find_moved_data(run_dir: Path, cfg: DictConfig) -> list[str]:
    """Return the keys of the places where a run's data lie now and did not lie before."""
    if not (run_dir / CONFIG_FILE).exists():
        return []
    return list(moved_data(flatten(read_config(run_dir)), flatten(cfg)))


def note_moved_data(run_dir: Path, cfg: DictConfig) -> None:
    """Write the places where a run's data lie now into its configuration."""
    if moved := moved_data(flatten(stored := read_config(run_dir)), flatten(cfg)):
        for key, place in moved.items():
            OmegaConf.update(stored, key, escaped(place))
        _write_yaml(run_dir / CONFIG_FILE, as_yaml(stored))


def store_value(run_dir: Path, key: str, value: Any) -> None:
    """Write another value of a dotted key into the configuration of a run."""
    stored = read_config(run_dir)
    OmegaConf.update(stored, key, value)
    _write_yaml(run_dir / CONFIG_FILE, as_yaml(stored))


def store_length(run_dir: Path, cfg: DictConfig) -> None:
    """Write the length that a configuration has into the files of an older run.

    The configuration comes last: with it, the run has its new length.
    """
    stored = read_config(run_dir)
    old, new = flatten(stored), flatten(cfg)
    # A damaged file is no reason to stop. A warning has told of it.
    with suppress(UserError):
        given = [(text.lstrip("+").partition("=")[0], text) for text in read_overrides(run_dir)]
        set_here = {key for key, _ in given} | {key for key in LENGTH if old[key] != new[key]}
        others = [text for key, text in given if key not in LENGTH]
        texts = [f"{key}={as_override(new[key])}" for key in LENGTH if key in set_here]
        _write_yaml(run_dir / OVERRIDES_FILE, _overrides_text([*others, *texts]))
    for key in LENGTH:
        OmegaConf.update(stored, key, new[key])
    _write_yaml(run_dir / CONFIG_FILE, as_yaml(stored))


def best_paths(run_dir: Path) -> list[Path]:
    """Return the kept checkpoints of steps that were the best so far, the last one first."""
    return sorted((run_dir / CHECKPOINTS).glob("best-*.pt"), reverse=True)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint by its name; -1 if that is no name of a checkpoint."""
    match = re.fullmatch(r"(?:step|best)-(\d+)\.pt", path.name)
    return int(match[1]) if match else -1
