"""Hydra's callbacks in runs, sweeps and searches."""

import signal
from pathlib import Path

import pytest
from sweep_commands import (
    Begin,
    checkpoints,
    execute,
    finish,
    sweep_command,
    wait_until,
)

CALLBACK = '''\
"""A callback of another package, which writes down what it is told."""

import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf


class Noting(Callback):
    def __init__(self, notes, raises_in=""):
        self.notes, self.raises_in = Path(notes), raises_in

    def note(self, *words):
        with self.notes.open("a") as file:
            print(*words, file=file)
        if words[0] == self.raises_in:
            raise ValueError("no such table")

    def number(self, config):
        return None if OmegaConf.is_missing(config.hydra.job, "num") else config.hydra.job.num

    def on_run_start(self, config, **kwargs):
        self.note("run_start")

    def on_run_end(self, config, **kwargs):
        self.note("run_end")

    def on_multirun_start(self, config, **kwargs):
        self.note("multirun_start")

    def on_multirun_end(self, config, **kwargs):
        self.note("multirun_end")

    def on_job_start(self, config, *, task_function, **kwargs):
        output_dir = Path(config.hydra.runtime.output_dir)
        assert callable(task_function) and output_dir.is_absolute()
        assert HydraConfig.get().runtime.output_dir == str(output_dir)
        if self.number(config) is not None:
            assert output_dir == Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
        assert f"seed={config.seed}" in config.hydra.job.override_dirname
        self.note("job_start", self.number(config), config.seed)

    def on_job_end(self, config, job_return, **kwargs):
        assert f"seed={config.seed}" in job_return.overrides
        assert job_return.cfg.seed == config.seed and "hydra" not in job_return.cfg
        value = job_return._return_value
        value = "number" if isinstance(value, float) else value
        self.note("job_end", self.number(config), job_return.status.name, value)
'''


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the callback; return the file that it writes."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "noting.py").write_text(CALLBACK)
    monkeypatch.setenv("PYTHONPATH", str(site), prepend=":")
    return tmp_path / "notes"


def noting(notes: Path, *overrides: str) -> list[str]:
    """Return the overrides that add the callback, followed by others."""
    added = ["+hydra.callbacks.mine._target_=noting.Noting", f"+hydra.callbacks.mine.notes={notes}"]
    return [*added, *overrides]


@pytest.mark.parametrize(
    "launcher",
    ["local", *(pytest.param(n, marks=pytest.mark.slow) for n in ("vectorized", "basic"))],
)
def test_callbacks_are_told_once_of_each_job(tmp_path: Path, notes: Path, launcher: str) -> None:
    command = sweep_command(tmp_path / "sweep", *noting(notes, "seed=3,5"))
    if launcher == "basic":
        command.remove("hydra.launcher.n_jobs=2")
    code, _, err = execute([*command, f"hydra/launcher={launcher}"])
    assert code == 0, err
    assert "raised" not in err
    lines = notes.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("multirun_start", "multirun_end")
    assert sorted(lines[1:-1]) == [
        "job_end 0 COMPLETED number",
        "job_end 1 COMPLETED number",
        "job_start 0 3",
        "job_start 1 5",
    ]


@pytest.mark.slow
def test_callbacks_are_told_of_the_trials_of_a_search(tmp_path: Path, notes: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "seed=4"]
    rates = "optimizer.lr=interval(1e-4,1e-3)"
    code, _, err = execute(sweep_command(tmp_path / "sweep", *noting(notes, *search, rates)))
    assert code == 0, err
    lines = notes.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("multirun_start", "multirun_end")
    assert sorted(lines[1:-1])[2:] == ["job_start 0 4", "job_start 1 4"]


def test_failed_job_ends_once_and_a_callback_that_raises_harms_nothing(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = tmp_path / "fault"
    fault.touch()
    monkeypatch.setenv("FAULTY", str(fault))
    losses = "loss._target_=gan.losses.non_saturating,faulty_losses.raises"
    added = noting(notes, "seed=3", losses, "hydra.launcher.retries=1")
    raising = "+hydra.callbacks.mine.raises_in=job_end"
    code, out, err = execute(sweep_command(tmp_path / "sweep", *added, raising))
    assert code == 1
    assert "trying again" in out
    line = "warning: Noting.on_job_end raised ValueError: no such table\n"
    assert err.count(line) == 2
    lines = notes.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("multirun_start", "multirun_end")
    assert sorted(text for text in lines if "job_start" in text) == [
        "job_start 0 3",
        "job_start 1 3",
    ]
    assert "job_end 0 COMPLETED number" in lines
    (failed,) = (text for text in lines if "FAILED" in text)
    assert failed.startswith("job_end 1 FAILED _target_=faulty_losses.raises")


def test_callbacks_are_told_of_the_end_of_a_stopped_sweep(
    tmp_path: Path, notes: Path, begin: Begin
) -> None:
    path = tmp_path / "sweep"
    process = begin(sweep_command(path, *noting(notes, "seed=3,5", "trainer.max_steps=1000000")))
    wait_until(lambda: len({file.parent for file in checkpoints(path)}) == 2)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    lines = notes.read_text().splitlines()
    assert lines[-1] == "multirun_end"
    assert sum(text.startswith("job_end") and "interrupted" in text for text in lines) == 2


def test_callbacks_are_told_of_a_run_that_is_refused(tmp_path: Path, notes: Path) -> None:
    command = sweep_command(tmp_path, *noting(notes, "seed=3", "trainer.batch_size=100000"))
    command = [word for word in command if word != "--multirun" and "hydra.sweep" not in word]
    command = [word for word in command if "hydra.launcher" not in word]
    command.append("+hydra.callbacks.mine.raises_in=run_start")
    code, _, err = execute([*command, f"hydra.run.dir={tmp_path / 'run'}"])
    assert code == 2
    assert err.splitlines()[:-1] == [
        "warning: Noting.on_run_start raised ValueError: no such table"
    ]
    assert err.splitlines()[-1].startswith("trainer.batch_size=100000: must be at most ")
    lines = notes.read_text().splitlines()
    assert lines[:2] == ["run_start", "job_start None 3"]
    assert lines[2].startswith("job_end None FAILED")
    assert lines[3:] == ["run_end"]
    assert not (tmp_path / "run").exists()
