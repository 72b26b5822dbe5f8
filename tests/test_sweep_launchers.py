"""What all launchers have in common, and what they say where they cannot work."""

import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from sweep_cases import composed

from gan.config.checks import check_ranges
from gan.errors import UserError
from gan.launchers import slurm
from gan.launchers.attempt import attempt, placed
from gan.launchers.pool import Task
from gan.launchers.tail import Tail, newest_checkpoint
from gan.sweep.launch import PLACES, in_pool, places


def settings(launcher: str, *overrides: str) -> dict[str, Any]:
    master, _ = composed(f"hydra/launcher={launcher}", *overrides)
    check_ranges(master.hydra.launcher, "hydra.launcher.")
    found = OmegaConf.to_container(master.hydra.launcher, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


@pytest.mark.parametrize(
    ("launcher", "count"), [("local", 3), ("vectorized", 3 * 64), ("slurm", 3), ("ray", 3)]
)
def test_every_launcher_has_its_places(launcher: str, count: int) -> None:
    capped = settings(launcher, "hydra.launcher.n_jobs=3")
    assert capped["_target_"].rpartition(".")[2] in PLACES
    assert places(capped).count("cpu", 1) == count


def test_threads_are_those_that_a_job_asks_for() -> None:
    assert places(settings("slurm", "hydra.launcher.cpus_per_task=7")).threads("cpu", 99) == 7
    assert places(settings("ray", "hydra.launcher.num_cpus=5")).threads("cpu", 99) == 5


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


def test_what_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch here"):
        in_pool(settings("slurm"))
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[slurm\]"'):
        in_pool(settings("slurm"))
    with pytest.raises(UserError, match=r'pip install -e "\.\[ray\]"'):
        in_pool(settings("ray"))


def test_a_run_is_placed() -> None:
    config = {"device": "cuda:3", "threads": None}
    assert placed(config, 4, one_gpu=True) == {"device": "cuda", "threads": 4}
    assert placed(config, 4, one_gpu=False) == {"device": "cuda:3", "threads": 4}
    assert placed(config | {"threads": 2}, 4, one_gpu=False)["threads"] == 2


def test_what_a_run_writes_is_followed(tmp_path: Path) -> None:
    task = Task("a", {"trainer": {"max_steps": None, "max_epochs": 3}}, tmp_path, [])
    tail, file = Tail(task), tmp_path / "metrics.jsonl"
    assert tail.news() == []
    file.write_text('{"step": 10, "epoch": 0.5}\n{"step": 20, "epoch": 1.0}\n{"step"')
    assert [(event.step, event.total) for event in tail.news()] == [(10, 60), (20, 60)]
    # It went on from a checkpoint, and writes the second line again.
    file.write_text('{"step": 10, "epoch": 0.5}\n')
    assert tail.news() == []
    with file.open("a") as lines:
        lines.write('{"step": 20, "epoch": 1.0}\n{"step": 30, "epoch": 1.5}\n')
    assert [event.record for event in tail.news()] == [{"step": 30, "epoch": 1.5}]


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) == ""
    (tmp_path / "checkpoints").mkdir()
    for step in (20, 100):
        (tmp_path / "checkpoints" / f"step-{step:08d}.pt").touch()
    assert newest_checkpoint(tmp_path) == "step-00000100.pt"
    (tmp_path / "checkpoints" / ".step-00000200.pt.x").touch()
    assert newest_checkpoint(tmp_path) == "step-00000100.pt"


def test_a_lock_that_stays_is_a_lost_attempt(tmp_path: Path) -> None:
    from sweep_cases import TINY

    from gan.config.compose import compose
    from gan.run.directory import claimed
    from gan.sweep.composer import plain

    def watch(*_: object) -> None:
        pass

    config = plain(compose(*TINY))
    with claimed(tmp_path):
        assert attempt(config, tmp_path, [], watch)["status"] == "refused"
        waited = attempt(config, tmp_path, [], watch, patience=0.1)
    assert waited["status"] == "lost"
    assert "another process is at work" in waited["reason"]
    assert attempt(config, tmp_path, [], watch)["status"] == "completed"


@pytest.mark.parametrize(
    ("status", "text"),
    [("0", ""), ("", ""), ("768", ", exit code 3"), ("9", ", killed by SIGKILL")],
)
def test_wait_statuses_are_read(status: str, text: str) -> None:
    assert slurm.cause(status) == text


def test_a_signal_behind_a_shell_is_read() -> None:
    assert slurm.cause(str((128 + 9) << 8)) == ", killed by SIGKILL"


def test_what_sbatch_says_is_one_line() -> None:
    said = "Could not submit\nsbatch: error: invalid partition: lwo\nsbatch: error: it failed\n"
    assert slurm.complaint(said) == "invalid partition: lwo; it failed"
    assert slurm.complaint("of another\nkind") == "of another kind"
