"""Small sweeps: composed in this process, or started as commands that a test may disturb."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cohorts import assert_close_checkpoints
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from runs import content, hparams_records
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS

from gan.config.loader import VERSION_BASE
from gan.config.schema import CONF_DIR
from gan.run.checkpoint import load_newest_checkpoint
from gan.run.directory import read_config
from gan.run.result import read_records
from gan.train import run

Begin = Callable[[list[str]], subprocess.Popen[str]]
"""A function that starts a command, which is killed if the test ends before it."""
TESTS = Path(__file__).parent
"""The folder of the tests and of the modules that they share."""
SCRIPTS = TESTS.parent / "scripts"
TINY = (
    "data=digits",
    "model.hidden_dim=16",
    "trainer.max_steps=30",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=10",
    "trainer.ema_half_life=null",
    "metrics.every=15",
    "metrics.samples=64",
    "logging.every=10",
    "logging.samples_every=10",
    "logging.samples=4",
    "logging.tensorboard=false",
    "threads=1",
)
"""Overrides for runs that take a fraction of a second."""
COHORTS = (
    "hydra.launcher.vectorized=true",
    "hydra.launcher.n_jobs=1",
    # There is nothing to measure in so short a time.
    "hydra.launcher.measure=false",
    "hydra.launcher.compile=false",
)
"""Overrides that let a cluster train its runs as one cohort."""
PRUNED_SEARCH = (
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_trials=6",
    "hydra.sweeper.sampler=random",
    "hydra.sweeper.pruner=median",
    "hydra.sweeper.startup_trials=1",
    "hydra.sweeper.min_steps=15",
    "loss._target_=faulty_losses.slow",
    "optimizer.lr=tag(log, interval(1e-6, 1e-3))",
    "trainer.max_steps=450",
    "logging.tensorboard=true",
)
"""Overrides of a search whose runs take so long that some can be pruned."""


def compose_sweep(*overrides: str, conf: Path = CONF_DIR) -> tuple[DictConfig, ConfigLoader]:
    """Return the configuration of a sweep and the loader, as Hydra hands them to a sweeper."""
    with initialize_config_dir(str(conf), **VERSION_BASE):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)
        return master, hydra.config_loader


def sweep_command(sweep_dir: Path, *overrides: str) -> list[str]:
    """Return the command line of a sweep of tiny runs, two at a time."""
    train = [sys.executable, str(SCRIPTS / "train.py"), "--multirun"]
    return [*train, *TINY, f"hydra.sweep.dir={sweep_dir}", "hydra.launcher.n_jobs=2", *overrides]


def resume_command(sweep_dir: Path, *options: str) -> list[str]:
    """Return the command line that resumes a sweep."""
    return [sys.executable, str(SCRIPTS / "resume.py"), str(sweep_dir), *options]


def start(command: list[str]) -> subprocess.Popen[str]:
    """Start a command, whose runs may use modules of the tests."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 240) -> tuple[int, str, str]:
    """Wait for a process; return its exit code and its output and errors."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def execute(command: list[str], timeout: float = 240) -> tuple[int, str, str]:
    """Run a command to its end; return its exit code and its output and errors."""
    return finish(start(command), timeout)


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    """Return whether a process lives. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill a process, if it still lives."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until a condition holds, and fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)


def training_processes(sweep_dir: Path) -> dict[str, int]:
    """Return the processes that train runs of a sweep, whoever started them, by run."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            file = (process / "fd" / "1").readlink()
            if file.name == "train.log" and file.parent.parent == sweep_dir.resolve():
                found[file.parent.name] = int(process.name)
    return found


def statuses(sweep_dir: Path) -> dict[str, str]:
    """Return the status of each run that has a result, by run."""
    files = sweep_dir.glob("*/result.json")
    return {file.parent.name: json.loads(file.read_text())["status"] for file in files}


def failure_lines(out: str) -> dict[str, str]:
    """Return the lines in which a command says why runs failed, by run."""
    lines = [line for line in out.splitlines() if line.startswith("failed: ")]
    return {line.split(": ")[1]: line for line in lines}


def checkpoints(sweep_dir: Path) -> set[Path]:
    """Return the checkpoints of all runs."""
    return set(sweep_dir.glob("*/checkpoints/step-*.pt"))


def checkpoint_steps(sweep_dir: Path) -> dict[str, int]:
    """Return the step of each run's newest checkpoint, by run."""
    steps: dict[str, int] = {}
    for file in checkpoints(sweep_dir):
        name, step = file.parent.parent.name, int(file.stem.partition("-")[2])
        steps[name] = max(steps.get(name, 0), step)
    return steps


def wait_for_two_to_save(sweep_dir: Path) -> None:
    """Wait until two runs have saved new checkpoints, counted from now."""
    before = checkpoint_steps(sweep_dir)

    def count() -> int:
        now = checkpoint_steps(sweep_dir)
        return sum(step > before.get(name, 0) for name, step in now.items())

    wait_until(lambda: count() == 2)


def assert_same_as_undisturbed(sweep_dir: Path, tmp_path: Path) -> None:
    """Check that each run holds the same as one that trains the right loss by itself."""
    for name in statuses(sweep_dir):
        cfg = read_config(sweep_dir / name)
        OmegaConf.update(cfg, "loss._target_", "gan.losses.non_saturating")
        run(cfg, tmp_path / name)
        assert content(sweep_dir / name) == content(tmp_path / name), name


def assert_alike_to_undisturbed(sweep_dir: Path, tmp_path: Path) -> None:
    """Check that each run has the numbers of one that trains alone, but for rounding."""
    names = list(statuses(sweep_dir))
    assert names
    for name in names:
        run(read_config(sweep_dir / name), tmp_path / name)
        one, other = read_records(sweep_dir / name), read_records(tmp_path / name)
        assert [list(record) for record in one] == [list(record) for record in other]
        for mine, alone in zip(one, other, strict=True):
            assert mine == pytest.approx(alone, rel=1e-3, abs=1e-3)
        saved, alone = (load_newest_checkpoint(d / name) or {} for d in (sweep_dir, tmp_path))
        assert_close_checkpoints(alone, saved)


def assert_pruned_as_on_this_machine(sweep_dir: Path) -> None:
    """Check that a search pruned some runs, and that TensorBoard shows the end of each run."""
    found = statuses(sweep_dir)
    assert set(found.values()) == {"pruned", "completed"}
    for name, status in found.items():
        (end,) = hparams_records(sweep_dir / name)["session_end_info"]
        success = STATUS_SUCCESS if status == "completed" else STATUS_FAILURE
        assert end.session_end_info.status == success, name
        log = (sweep_dir / name / "train.log").read_text()
        assert "stopped by SIG" not in log
        assert checkpoints(sweep_dir) & set((sweep_dir / name).glob("checkpoints/*"))


def processes_of(*words: str) -> list[int]:
    """Return the processes whose command lines hold all of these words."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if all(word in line for word in words):
                found.append(int(process.name))
    return found
