"""The study of a search, in which Optuna keeps its trials: where it is stored, and who chooses."""

import json
import os
import sqlite3
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import BaseJournalBackend

from gan.errors import UserError
from gan.seeds import derive_seed
from gan.sweep.cmaes import CmaEs
from gan.sweep.directory import STUDY_DATABASE, STUDY_FILE
from gan.system.files import append_text

STUDY_NAME = "search"
CHECKSUM = "crc"
"""The key of the checksum in a line of the study's file."""


def open_study(
    settings: DictConfig,
    path: Path,
    directions: list[str],
    *,
    seed: int,
    max_steps: int | None,
    grid: Sequence[dict[str, Any]] | None = None,
    is_new: bool = False,
) -> optuna.Study:
    """Return the study that is stored for a sweep, or a new one.

    Args:
        settings: the keys of `hydra.sweeper`.
        path: the sweep's directory.
        seed: decides the first points.
        max_steps: the step at which runs end, if it is known.
        grid: the points that the sampler `grid` tries, as values by the names of dimensions.
        is_new: no sweep was saved, so a study that is there has no use for its trials.

    Raises:
        UserError: the storage does not answer, or holds the trials of another search.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    where = place_of_study(settings, path)
    name = STUDY_NAME if settings.storage is None else str(path.resolve())
    try:
        storage = _open_storage(settings, path)
        if is_new and name in optuna.get_all_study_names(storage):
            # A process was killed before it saved the sweep. It has begun no trial.
            states = {t.state for t in optuna.load_study(study_name=name, storage=storage).trials}
            if states - {optuna.trial.TrialState.WAITING}:
                reason = "holds the trials of another search; choose another hydra.sweep.dir"
                raise UserError(f"{where}: {reason}")
            optuna.delete_study(study_name=name, storage=storage)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[optuna.study.StudyDirection[name.upper()] for name in directions],
            load_if_exists=True,
            pruner=_make_pruner(settings, max_steps),
        )
        trials_before = len(study.get_trials(deepcopy=False))
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: does not answer ({reason})") from error
    study.sampler = _make_sampler(settings.sampler, seed, trials_before)
    if grid is not None:
        # Optuna's own grid sampler stops a study, which does not work with ask and tell. A process
        # that was killed here has left some of the points out.
        trials = study.get_trials(deepcopy=False)
        there = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
        known = {frozenset(point.items()) for point in there}
        with stored_at_once(study):
            for point in grid:
                if frozenset(point.items()) not in known:
                    study.enqueue_trial(point)
    return study


def place_of_study(settings: DictConfig, path: Path) -> str:
    """Return where the study of a sweep in `path` is stored, as the start of an error."""
    if settings.storage:
        return f"hydra.sweeper.storage={settings.storage}"
    return str(path / (STUDY_DATABASE if _is_in_database(path) else STUDY_FILE))


def dashboard_words(settings: DictConfig, path: Path) -> list[str]:
    """Return the command that shows all trials, for the directory of the sweep."""
    own = f"sqlite:///{STUDY_DATABASE}" if _is_in_database(path) else STUDY_FILE
    return ["optuna-dashboard", settings.storage or own]


@contextmanager
def stored_at_once(study: optuna.Study) -> Iterator[None]:
    """Store all changes of a study within the block at once, as each one waits for the disk.

    If the block raises an exception, none of them is stored.
    """
    # Optuna stores each value of a trial by itself, and has no other way to join them.
    backend: Any = getattr(study._storage, "_backend")  # noqa: B009
    if isinstance(backend, StudyFile):
        with backend.at_once():
            yield
        return
    sessions, engine = backend.scoped_session, backend.engine
    with engine.begin() as connection:
        sessions.remove()
        sessions.configure(bind=connection, join_transaction_mode="rollback_only")
        try:
            yield
        finally:
            sessions.remove()
            sessions.configure(bind=engine, join_transaction_mode="conditional_savepoint")


class StudyFile(BaseJournalBackend):
    """A study in a file that one process writes: the operations on it, as one line of JSON each.

    The lines are those of Optuna's `JournalFileBackend`, which can read the file, and a checksum.

    Raises:
        UserError: a line is damaged.
    """

    def __init__(self, path: Path):
        self._path = path
        self._unread: list[dict[str, Any]] = []
        """Operations that the storage has not read."""
        self._waiting: list[str] | None = None
        """Lines to be stored at the end of a block; None outside of one."""
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            # A process was killed while it wrote the last line.
            os.truncate(path, whole)
        self._unread += _read_lines(path, content[:whole])

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the operations that were not read before. A storage asks for each of them once."""
        new, self._unread = self._unread, []
        return new

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Store operations, and wait until they are on the disk."""
        lines = [_as_line(operation) for operation in logs]
        if self._waiting is not None:
            self._waiting += lines
        else:
            append_text(self._path, "".join(lines))
        # The storage sees them as a later process will.
        self._unread += map(json.loads, lines)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Store the operations of a block at its end, unless it raises an exception."""
        self._waiting = []
        try:
            yield
            append_text(self._path, "".join(self._waiting))
        finally:
            self._waiting = None


def _as_line(operation: dict[str, Any]) -> str:
    return json.dumps({**operation, CHECKSUM: _checksum(operation)}) + "\n"


def _read_lines(path: Path, content: bytes) -> Iterator[dict[str, Any]]:
    """Yield the operations in whole lines of a file.

    Raises:
        UserError: a line is not as it was written.
    """
    for number, line in enumerate(content.splitlines(), 1):
        try:
            operation: dict[str, Any] = json.loads(line)
            # What Optuna's dashboard adds has no checksum.
            is_whole = operation.pop(CHECKSUM, None) in (None, _checksum(operation))
        except (ValueError, AttributeError):
            is_whole = False
        if not is_whole:
            raise UserError(
                f"{path}: line {number} is damaged; restore the file, or choose another "
                "hydra.sweep.dir"
            )
        yield operation


def _checksum(operation: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(operation).encode())


def _is_in_database(path: Path) -> bool:
    """Return whether the search in a directory is one of an earlier version."""
    return (path / STUDY_DATABASE).exists() and not (path / STUDY_FILE).exists()


def _open_storage(settings: DictConfig, path: Path) -> BaseStorage:
    if settings.storage:
        return get_storage(settings.storage)
    if _is_in_database(path):
        # A path may hold characters that mean something else in an address, such as ? and %.
        connect = partial(sqlite3.connect, path.absolute() / STUDY_DATABASE)
        return RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    return JournalStorage(StudyFile(path / STUDY_FILE))


def _make_sampler(name: str, seed: int, trials_before: int) -> optuna.samplers.BaseSampler:
    # A sampler that went on with the same seed would choose the first points again.
    fresh = derive_seed(seed, "search", trials_before) % 2**31
    samplers = optuna.samplers
    makers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: samplers.RandomSampler(seed=fresh),
        "grid": lambda: samplers.RandomSampler(seed=fresh),
        # The study stores the place in the sequence.
        "sobol": lambda: samplers.QMCSampler(
            qmc_type="sobol", scramble=True, seed=seed, warn_independent_sampling=False
        ),
        "cmaes": lambda: CmaEs(seed=fresh, warn_independent_sampling=False),
        "tpe": lambda: samplers.TPESampler(seed=fresh),
    }
    return makers[name]()


def _make_pruner(settings: DictConfig, max_steps: int | None) -> optuna.pruners.BasePruner:
    pruners = optuna.pruners
    min_steps, factor = settings.min_steps, settings.reduction_factor
    makers: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": pruners.NopPruner,
        "median": lambda: pruners.MedianPruner(settings.startup_trials, min_steps),
        "asha": lambda: pruners.SuccessiveHalvingPruner(
            min_resource=min_steps, reduction_factor=factor
        ),
        "hyperband": lambda: pruners.HyperbandPruner(
            min_resource=min_steps, max_resource=max_steps or "auto", reduction_factor=factor
        ),
        "wilcoxon": lambda: pruners.WilcoxonPruner(n_startup_steps=2),
    }
    return makers[settings.pruner]()
