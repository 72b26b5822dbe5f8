"""What the tests of sweeps share: small sweeps, planned in this process or run as a command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from runs import content

from gan.config.compose import CONF_DIR
from gan.run.directory import read_config
from gan.train import run

Begin = Callable[[list[str]], subprocess.Popen[str]]
"""Starts a command that is killed if the test ends before it."""
TESTS = Path(__file__).parent
SCRIPTS = TESTS.parent / "scripts"
TINY = (
    "data=digits",
    "model.hidden_dim=16",
    "trainer.max_steps=30",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=10",
    "metrics.every=15",
    "metrics.samples=64",
    "logging.every=10",
    "logging.samples_every=10",
    "logging.samples=4",
    "logging.tensorboard=false",
    "threads=1",
)


def composed(*overrides: str, conf: Path = CONF_DIR) -> tuple[DictConfig, ConfigLoader]:
    """What Hydra hands to a sweeper for a command line."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN)
        return master, hydra.config_loader


def command(sweep_dir: Path, *overrides: str) -> list[str]:
    train = [sys.executable, str(SCRIPTS / "train.py"), "--multirun"]
    return [*train, *TINY, f"hydra.sweep.dir={sweep_dir}", "hydra.launcher.n_jobs=2", *overrides]


def resume_command(sweep_dir: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPTS / "resume.py"), str(sweep_dir), *options]


def start(command: list[str]) -> subprocess.Popen[str]:
    # Runs may use what is in faulty.py.
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def ended(command: list[str], timeout: float = 120) -> tuple[int, str, str]:
    return finish(start(command), timeout)


def workers(parent: int) -> list[int]:
    """The processes that this one started, by what the system knows."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def checkpoints(sweep_dir: Path) -> set[Path]:
    return set(sweep_dir.glob("*/checkpoints/step-*.pt"))


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.02)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def run_processes(sweep_dir: Path) -> dict[str, int]:
    """The processes that train in a sweep, whoever started them, by the names of their runs."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            file = (process / "fd" / "1").readlink()
            if file.name == "train.log" and file.parent.parent == sweep_dir.resolve():
                found[file.parent.name] = int(process.name)
    return found


def newest(path: Path) -> dict[str, int]:
    """The step of each run's newest checkpoint."""
    steps: dict[str, int] = {}
    for file in path.glob("*/checkpoints/step-*.pt"):
        name, step = file.parent.parent.name, int(file.stem.partition("-")[2])
        steps[name] = max(steps.get(name, 0), step)
    return steps


def statuses(path: Path) -> set[str]:
    return {json.loads(file.read_text())["status"] for file in path.glob("*/result.json")}


def both_have_more(path: Path) -> None:
    """Wait until two runs have saved checkpoints from now on."""
    before = newest(path)
    wait_until(lambda: sum(step > before.get(name, 0) for name, step in newest(path).items()) == 2)


def same_as_alone(path: Path, tmp_path: Path) -> None:
    names = [file.parent.name for file in path.glob("*/result.json")]
    assert len(names) == 4
    for name in names:
        cfg = read_config(path / name)
        OmegaConf.update(cfg, "loss._target_", "gan.losses.non_saturating")
        run(cfg, tmp_path / name)
        assert content(path / name) == content(tmp_path / name)
