"""Sweeps in real processes: what goes wrong in one run, and what ends all of them."""

import json
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from runs import content
from sweep_cases import (
    alive,
    checkpoints,
    command,
    ended,
    finish,
    kill,
    resume_command,
    start,
    wait_until,
    workers,
)

from gan.run.directory import read_config
from gan.train import run

SLOW = ("loss._target_=faulty.slow", "seed=1,2,3", "trainer.max_steps=90")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Things go wrong as long as this file is there."""
    file = tmp_path / "faulty"
    file.touch()
    monkeypatch.setenv("FAULTY", str(file))
    return file


def statuses(path: Path) -> dict[str, str]:
    results = {run_dir.parent.name: run_dir for run_dir in path.glob("*/result.json")}
    return {name: json.loads(file.read_text())["status"] for name, file in results.items()}


def test_what_fails_is_told_and_harms_no_other(path: Path, faulty: Path) -> None:
    # The one that hangs comes first, as its end takes longest.
    wrong = "faulty.hangs,faulty.raises,faulty.is_killed,faulty.diverges"
    sweep = command(
        path,
        f"loss._target_={wrong},gan.losses.non_saturating",
        "hydra.launcher.timeout=10",
        "hydra.launcher.retries=0",
    )
    code, out, err = ended(sweep)
    assert code == 1, err
    assert "3 of 5 runs failed" in err
    assert "retry_failed=true" in err
    told = {line.split(": ")[1]: line for line in out.splitlines() if line.startswith("failed: ")}
    assert "RuntimeError: no such loss" in told["_target_=faulty.raises"]
    assert "killed by SIGKILL" in told["_target_=faulty.is_killed"]
    assert "took longer than 10 s" in told["_target_=faulty.hangs"]
    for line in told.values():
        assert Path(line.rpartition("log: ")[2]).is_file()
    log = (path / "_target_=faulty.raises" / "train.log").read_text()
    assert "Traceback" in log
    found = statuses(path)
    assert found["_target_=faulty.diverges"] == "diverged"
    assert found["_target_=gan.losses.non_saturating"] == "completed"

    faulty.unlink()
    code, out, err = ended(resume_command(path))
    assert code == 1
    assert "to run" not in out
    code, out, err = ended(resume_command(path, "retry_failed=true"))
    assert code == 0, err
    assert "3 to run, 2 done before" in out
    found = statuses(path)
    assert found.pop("_target_=faulty.diverges") == "diverged"
    assert set(found.values()) == {"completed"}


def test_whatever_is_killed_or_stopped_it_ends_as_undisturbed(path: Path, tmp_path: Path) -> None:
    # A worker is killed, and replaced.
    process = start(command(path, *SLOW))
    wait_until(lambda: len({file.parent for file in checkpoints(path)}) == 2)
    killed, other = workers(process.pid)
    kill(killed)
    wait_until(lambda: len(workers(process.pid)) == 2)
    assert process.poll() is None
    assert other in workers(process.pid)
    # Another process keeps out.
    second = ended(command(path, *SLOW))
    assert second[0] == 2
    assert f"process {process.pid} on " in second[2]
    # The parent is killed, and its workers end by themselves.
    children = workers(process.pid)
    process.kill()
    assert "killed by SIGKILL" in finish(process)[1]
    wait_until(lambda: not any(map(alive, children)), seconds=5)
    for number, again in (
        (signal.SIGINT, command(path, *SLOW)),
        (signal.SIGTERM, resume_command(path)),
    ):
        before = checkpoints(path)
        process = start(again)
        wait_until(lambda: checkpoints(path) - before)  # noqa: B023
        children = workers(process.pid)
        process.send_signal(number)
        code, _, err = finish(process)
        assert code == 128 + number
        assert err.count("\n") == 1
        assert f"{path}: stopped by {number.name} with " in err
        assert f"python scripts/resume.py {path}" in err
        assert not any(map(alive, children))
    code, _, err = ended(resume_command(path))
    assert code == 0, err
    assert list(statuses(path).values()) == ["completed"] * 3
    # Each run holds what the same configuration gives by itself.
    for name in statuses(path):
        cfg = read_config(path / name)
        OmegaConf.update(cfg, "loss._target_", "gan.losses.non_saturating")
        run(cfg, tmp_path / name)
        assert content(path / name) == content(tmp_path / name)


def test_other_launchers_run_a_grid_too(path: Path) -> None:
    sweep = command(path, "seed=1,2", "hydra/launcher=basic")
    sweep.remove("hydra.launcher.n_jobs=2")
    code, out, err = ended(sweep)
    assert code == 0, err
    assert statuses(path) == {"seed=1": "completed", "seed=2": "completed"}
    code, out, err = ended(sweep)
    assert code == 0, err
    assert "training on" not in out
    code, _, err = ended(resume_command(path))
    assert code == 2
    assert "repeat its command line" in err


def test_a_command_line_with_a_typo_starts_nothing(path: Path) -> None:
    code, out, err = ended(command(path, "optimizer.lrr=1,2"))
    assert (code, out) == (2, "")
    assert err == "optimizer.lrr=1,2: unknown key 'optimizer.lrr'; did you mean 'lr'?\n"
    assert not path.exists()
