"""Properties that all launchers share, and their complaints where they cannot work."""

import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_commands import compose_sweep

from gan.config.checks import check_ranges
from gan.errors import UserError
from gan.launchers.base import Launcher, find_launcher
from gan.launchers.local import LocalLauncher
from gan.sweep.sweep import in_launcher, launcher_settings, planning_launcher


def settings(launcher: str, *overrides: str) -> dict[str, Any]:
    """Return the settings of a launcher as a sweep stores them, once they are checked."""
    master, _ = compose_sweep(f"hydra/launcher={launcher}", *overrides)
    check_ranges(master.hydra.launcher, "hydra.launcher.")
    return launcher_settings(master)


def make_launcher(name: str, *overrides: str) -> Launcher:
    """Return the launcher of a command line."""
    launcher = find_launcher(settings(name, *overrides))
    assert launcher is not None
    return launcher


@pytest.mark.parametrize(
    ("launcher", "count"), [("local", 3), ("vectorized", 3 * 64), ("slurm", 3), ("ray", 3)]
)
def test_stored_settings_give_the_same_launcher_again(launcher: str, count: int) -> None:
    found = make_launcher(launcher, "hydra.launcher.n_jobs=3")
    assert f"{type(found).__module__}.{type(found).__name__}" == settings(launcher)["_target_"]
    assert found.max_running("cpu", 1) == count


def test_launcher_of_another_kind_is_planned_for_like_the_local_one() -> None:
    target = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    assert find_launcher({"_target_": target}) is None
    for n_jobs, understood in ((3, 3), (-1, None), ("all", None), (None, None)):
        planned = planning_launcher({"_target_": target, "n_jobs": n_jobs})
        assert planned.max_running("cpu", 1) == LocalLauncher(n_jobs=understood).max_running(
            "cpu", 1
        )


def test_run_gets_the_threads_that_its_job_asks_for() -> None:
    slurm = make_launcher("slurm", "hydra.launcher.cpus_per_task=7")
    assert slurm.threads_per_run("cpu", 99) == 7
    assert make_launcher("ray", "hydra.launcher.num_cpus=5").threads_per_run("cpu", 99) == 5


@pytest.mark.parametrize(
    ("launcher", "override", "message"),
    [
        ("vectorized", "hydra.launcher.max_group=0", "max_group=0: must be at least 1"),
        ("slurm", "hydra.launcher.mem=4X", r"^hydra\.launcher\.mem=4X: must match "),
        ("slurm", "hydra.launcher.time=0", r"^hydra\.launcher\.time=0: must be at least 1$"),
        ("ray", "hydra.launcher.num_cpus=0", r"^hydra\.launcher\.num_cpus=0: must be at least 1$"),
        ("ray", "hydra.launcher.object_store_memory=1", "must be at least 83886080"),
    ],
)
def test_wrong_settings_are_refused(launcher: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings(launcher, override)


def test_missing_programs_and_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        in_launcher(make_launcher("slurm"))
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "gan-sweeps\[slurm\]"'):
        in_launcher(make_launcher("slurm"))
    with pytest.raises(UserError, match=r'pip install "gan-sweeps\[ray\]"'):
        in_launcher(make_launcher("ray"))
