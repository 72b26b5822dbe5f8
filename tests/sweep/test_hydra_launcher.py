"""Launchers of Hydra's and of other packages, some with the names of ours."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from sweep_commands import execute, resume_command, statuses, sweep_command

PLAIN_LAUNCHER = '''\
"""A launcher of another package, which knows nothing of this one."""

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore


class {name}(BasicLauncher):
    def __init__(self, queue: str, n_jobs: int):
        super().__init__()
        assert queue == "long"


ConfigStore.instance().store(
    group="hydra/launcher",
    name="other",
    node={{"_target_": f"{{__name__}}.{name}", "queue": "long", "n_jobs": 1}},
    provider="other",
)
'''

SWEEP_LAUNCHER = '''\
"""A launcher of another package, which executes attempts as ours do and writes down their names."""

from pathlib import Path

from hydra.core.config_store import ConfigStore

from gan.launchers.local import LocalLauncher
from gan.sweep.hydra_launcher import SweepLauncher


class NotingLauncher(SweepLauncher, LocalLauncher):
    def __init__(self, *, notes: str, **settings):
        super().__init__(**settings)
        self.notes = Path(notes)

    def threads_per_run(self, device, runs):
        return 3

    def submit(self, attempt):
        with self.notes.open("a") as file:
            file.write(attempt.name + "\\n")
        super().submit(attempt)


ConfigStore.instance().store(
    group="hydra/launcher",
    name="noting",
    node={"_target_": f"{__name__}.NotingLauncher", "notes": "???", "n_jobs": None, "retries": 0},
    provider="other",
)
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


def install_plugin(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, source: str) -> None:
    """Put a module into the namespace package in which Hydra looks for plugins."""
    plugins = folder / "hydra_plugins"
    plugins.mkdir(parents=True)
    (plugins / f"{name}.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def assert_is_run_by_hydra(path: Path, command: list[str]) -> None:
    """Check that a launcher runs a sweep, and that its command line goes on with it."""
    code, out, err = execute(command)
    assert code == 0, err
    assert "training a GAN" in out
    assert statuses(path) == {"seed=1": "completed", "seed=2": "completed"}
    code, out, err = execute(command)
    assert code == 0, err
    assert "training a GAN" not in out
    code, _, err = execute(resume_command(path))
    assert code == 2
    assert err.count("\n") == 1
    assert f"repeat its command line with hydra.sweep.dir={path}" in err


def test_every_plugin_is_found_once_and_is_declared_for_newer_versions_of_hydra() -> None:
    """Hydra 1.4 finds plugins by entry points, and Hydra 1.3 by the package that they are in."""
    plugins = Plugins.instance().discover()
    assert len(plugins) == len(set(plugins))
    found = {f"{one.__module__}:{one.__name__}" for one in plugins}
    declared = {entry.value for entry in entry_points(group="hydra.plugins")}
    ours = {name for name in found if name.startswith("hydra_plugins.gan_")}
    assert ours
    assert ours == {name for name in declared if name.startswith("hydra_plugins.gan_")}


def test_launcher_of_hydra_runs_a_grid(path: Path) -> None:
    command = sweep_command(path, "seed=1,2", "hydra/launcher=basic")
    command.remove("hydra.launcher.n_jobs=2")
    assert_is_run_by_hydra(path, command)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SlurmLauncher", "RayLauncher"])
def test_launcher_of_another_package_may_have_the_name_of_one_of_ours(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install_plugin(monkeypatch, tmp_path / "site", "other", PLAIN_LAUNCHER.format(name=name))
    assert_is_run_by_hydra(path, sweep_command(path, "seed=1,2", "hydra/launcher=other"))
    settings = json.loads((path / "sweep.json").read_text())["launcher"]
    assert settings == {"_target_": f"hydra_plugins.other.{name}", "queue": "long", "n_jobs": 2}


def test_launcher_of_another_package_plans_runs_and_resumes_sweeps(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path / "site", "noting", SWEEP_LAUNCHER)
    notes, fault = tmp_path / "notes", tmp_path / "fault"
    fault.touch()
    monkeypatch.setenv("FAULTY", str(fault))
    command = sweep_command(
        path,
        "hydra/launcher=noting",
        f"hydra.launcher.notes={notes}",
        "loss._target_=faulty_losses.raises",
        "seed=1,2",
        "threads=null",
    )
    code, out, err = execute([*command, "sweep.dry_run=true"])
    assert code == 0, err
    assert "2 to run, 2 at a time" in out
    assert not notes.exists()
    code, out, err = execute(command)
    assert code == 1, err
    assert "2 to run, 0 done before; 2 at a time, 3 threads to a process" in out
    assert sorted(notes.read_text().split()) == ["seed=1", "seed=2"]
    assert set(statuses(path).values()) == {"failed"}

    fault.unlink()
    notes.unlink()
    code, out, err = execute(resume_command(path, "retry_failed=true", "n_jobs=1"))
    assert code == 0, err
    assert "2 to run, 0 done before; 1 at a time, 3 threads to a process" in out
    assert sorted(notes.read_text().split()) == ["seed=1", "seed=2"]
    assert statuses(path) == {"seed=1": "completed", "seed=2": "completed"}


@pytest.mark.slow
def test_launcher_of_another_package_runs_a_search(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    install_plugin(monkeypatch, tmp_path / "site", "noting", SWEEP_LAUNCHER)
    notes = tmp_path / "notes"
    command = sweep_command(
        path,
        "hydra/launcher=noting",
        f"hydra.launcher.notes={notes}",
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "optimizer.lr=interval(1e-4,1e-3)",
        "threads=null",
    )
    code, out, err = execute(command)
    assert code == 0, err
    assert "2 of 2 trials to run; 2 runs at a time, 3 threads to a process" in out
    assert sorted(notes.read_text().split()) == sorted(statuses(path))
    assert list(statuses(path).values()) == ["completed"] * 2
