"""Attempts for a cohort, and a parent process in memory that hands them to it."""

import re
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from runs import SHORT

from gan.config.compose import compose
from gan.run.attempt import Attempt, Ending
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint
from gan.run.result import Status, read_records, read_result
from gan.run.tensorboard import event_files
from gan.train import run
from gan.vectorized.autotune import Autotuner
from gan.vectorized.cohort import Cohort
from gan.vectorized.strategy import CohortSettings

ALWAYS_STACKED = CohortSettings(vectorize=True)
AS_CONFIGURED = CohortSettings(vectorize=False)
FAST = ("data=digits", "logging.every=10", "device=cpu")


class Parent:
    """A parent process in memory: the inbox of a cohort, and the reporter that it reports to."""

    def __init__(self, *attempts: Attempt):
        self.waiting = list(attempts)
        self.signals: dict[str, Signals] = {}
        self.actions: dict[tuple[str, int], Callable[[], object]] = {}
        """Functions that are called when an attempt logs values, by its name and the step."""
        self.begun: list[str] = []
        self.endings: dict[str, Ending] = {}
        self.returns: dict[str, tuple[str, int]] = {}
        """The reason and the largest cohort of each attempt that was given back."""
        self.notes: list[str] = []

    def new_attempts(self) -> list[Attempt]:
        """See Inbox."""
        attempts, self.waiting = self.waiting, []
        return attempts

    def stop_signals(self) -> dict[str, Signals]:
        """See Inbox."""
        signals, self.signals = self.signals, {}
        return signals

    def started(self, name: str) -> None:
        """See Reporter."""
        self.begun.append(name)

    def progress(self, name: str, step: int, total: int, record: dict[str, Any] | None) -> None:
        """See Reporter."""
        if record is not None and (name, step) in self.actions:
            self.actions.pop((name, step))()

    def ended(self, name: str, ending: Ending) -> None:
        """See Reporter."""
        self.endings[name] = ending

    def returned(self, name: str, reason: str, max_runs: int) -> None:
        """See Reporter."""
        self.returns[name] = reason, max_runs

    def note(self, text: str) -> None:
        """See Reporter."""
        self.notes.append(text)

    @property
    def statuses(self) -> dict[str, Status]:
        """The statuses of the attempts that ended, by name."""
        return {name: ending.status for name, ending in self.endings.items()}


def train_cohort(parent: Parent, settings: CohortSettings = ALWAYS_STACKED) -> None:
    """Train the attempts of a parent until none is left."""
    Autotuner(Cohort(parent, parent, settings)).train()


def make_attempt(folder: Path, name: str, *overrides: str) -> Attempt:
    """Return an attempt at a short run in the directory `folder`/`name`."""
    config = OmegaConf.to_container(compose(*SHORT, *FAST, *overrides), resolve=True)
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    return Attempt(name, plain, folder / name, [*overrides])


def train_alone(attempt: Attempt) -> Path:
    """Train the run of an attempt by itself, and return its directory beside the attempt's."""
    run_dir = attempt.run_dir.with_name(f"{attempt.name}, alone")
    run(OmegaConf.create(attempt.config), run_dir, overrides=attempt.overrides)
    return run_dir


def log_messages(run_dir: Path) -> list[str]:
    """Return the messages in a run's log, without times, levels and the run's directory."""
    text = (run_dir / "train.log").read_text().replace(str(run_dir), "RUN")
    # torch writes some lines of its own, once in a process.
    text = re.sub(r"^[A-Z]\d{4} .*\n", "", text, flags=re.MULTILINE)
    _, *messages = re.split(r"^\d{4}-\d\d-\d\d \S+ [A-Z]+ ", text, flags=re.MULTILINE)
    return [re.sub(r" time \S+ s ", " ", " ".join(message.split())) for message in messages]


def assert_close_checkpoints(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Check that all networks and optimizers of two checkpoints differ by rounding only."""
    for role in ("generator", "discriminator", "average"):
        for part in (role, f"{role}_optimizer"):
            a, b = (_tensors(saved.get(part)) for saved in (one, other))
            assert (a is None) == (b is None), part
            if a is not None:
                torch.testing.assert_close(b, a, rtol=1e-2, atol=1e-4)


def _tensors(part: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return what training changes in a part of a checkpoint.

    The settings of an optimizer that follow a schedule are set anew before each step.
    """
    if part is None or "param_groups" not in part:
        return part
    return {key: state for key, state in part["state"].items() if state}


def assert_alike(one: Path, other: Path) -> None:
    """Check that two runs left the same files, with numbers that differ by rounding only."""
    for a, b in zip(read_records(one), read_records(other), strict=True):
        assert list(a) == list(b)
        for name, value in a.items():
            is_exact = name in ("step", "epoch") or name.startswith(("lr/", "schedule/"))
            expected = value if is_exact else pytest.approx(value, rel=1e-3, abs=1e-3)
            assert b[name] == expected, name
    results = [read_result(run_dir) or {} for run_dir in (one, other)]
    assert list(results[0]) == list(results[1])
    for name in ("status", "steps", "images", "seed", "objective_name"):
        assert results[0][name] == results[1][name]
    assert results[0]["objective"] == pytest.approx(results[1]["objective"], rel=1e-3, abs=1e-3)
    for kind in ("final", "best"):
        assert results[0][kind].keys() == results[1][kind].keys()
    files = [
        sorted(
            str(path.relative_to(run_dir))
            for path in run_dir.rglob("*")
            if "tfevents" not in path.name
        )
        for run_dir in (one, other)
    ]
    assert files[0] == files[1]
    assert len(event_files(one)) == len(event_files(other)) == 1
    assert (one / "config.yaml").read_text() == (other / "config.yaml").read_text()
    checkpoints = [load_newest_checkpoint(run_dir) or {} for run_dir in (one, other)]
    assert list(checkpoints[0]) == list(checkpoints[1])
    assert_close_checkpoints(*checkpoints)
    sizes = [checkpoint_paths(run_dir)[0].stat().st_size for run_dir in (one, other)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02), "a run saves tensors of other runs"
    for name in ("noise", "random"):
        assert torch.equal(checkpoints[0][name], checkpoints[1][name])
