"""Sweeps in real processes: what goes wrong in one run, and what ends all of them."""

import json
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweep_cases import (
    alive,
    command,
    ended,
    finish,
    kill,
    resume_command,
    start,
    wait_until,
    workers,
)
from test_train import content

from gan.run_dir import read_config
from gan.train import run

SLOW = ("loss._target_=faulty.slow", "seed=1,2,3", "trainer.max_steps=60", "threads=1")


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


def halfway(path: Path, count: int = 2) -> bool:
    """Whether so many runs are between their first checkpoint and their end."""
    begun = {file.parent.parent.name for file in path.glob("*/checkpoints/step-*.pt")}
    return len(begun - set(statuses(path))) >= count


def assert_as_alone(path: Path, tmp_path: Path) -> None:
    """Each run of a sweep holds what the same configuration gives by itself."""
    for config in path.glob("seed=*/config.yaml"):
        alone = tmp_path / "alone" / config.parent.name
        cfg = read_config(config.parent)
        OmegaConf.update(cfg, "loss._target_", "gan.losses.non_saturating")
        run(cfg, alone)
        assert content(config.parent) == content(alone)


def test_what_fails_is_told_and_harms_no_other(path: Path, faulty: Path) -> None:
    wrong = "faulty.raises,faulty.is_killed,faulty.hangs,faulty.diverges"
    sweep = command(
        path,
        f"loss._target_=gan.losses.non_saturating,{wrong},gan.losses.minimax",
        "hydra.launcher.timeout=6",
        "hydra.launcher.retries=0",
    )
    code, out, err = ended(sweep)
    assert code == 1, err
    assert "3 of 6 runs failed" in err
    assert "retry_failed=true" in err
    told = {line.split(": ")[1]: line for line in out.splitlines() if line.startswith("failed: ")}
    assert "RuntimeError: no such loss" in told["_target_=faulty.raises"]
    assert "killed by SIGKILL" in told["_target_=faulty.is_killed"]
    assert "took longer than 6 s" in told["_target_=faulty.hangs"]
    for line in told.values():
        assert Path(line.rpartition("log: ")[2]).is_file()
    log = (path / "_target_=faulty.raises" / "train.log").read_text()
    assert "Traceback" in log
    found = statuses(path)
    assert found["_target_=faulty.diverges"] == "diverged"
    assert found["_target_=gan.losses.minimax"] == "completed"
    assert found["_target_=gan.losses.non_saturating"] == "completed"

    faulty.unlink()
    code, out, err = ended(resume_command(path))
    assert code == 1
    assert "to run" not in out
    code, out, err = ended(resume_command(path, "retry_failed=true"))
    assert code == 0, err
    assert "3 to run, 3 done before" in out
    found = statuses(path)
    assert found.pop("_target_=faulty.diverges") == "diverged"
    assert set(found.values()) == {"completed"}


def test_a_killed_worker_costs_its_attempt_alone(path: Path, tmp_path: Path) -> None:
    process = start(command(path, *SLOW))
    wait_until(lambda: halfway(path))
    victim = workers(process.pid)[0]
    kill(victim)
    code, out, err = finish(process)
    assert code == 0, err
    assert "killed by SIGKILL" in out
    assert "trying again" in out
    assert set(statuses(path).values()) == {"completed"}
    assert_as_alone(path, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_once_it_can_be_resumed(path: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(command(path, *SLOW))
    wait_until(lambda: halfway(path))
    children = workers(process.pid)
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 128 + number
    assert err.count("\n") == 1
    assert f"stopped by {number.name} with 3 of 3 runs left" in err
    assert f"python scripts/resume.py {path}" in err
    assert not any(map(alive, children))
    assert list(statuses(path).values()) == ["interrupted"] * 2
    again = command(path, *SLOW) if number == signal.SIGINT else resume_command(path)
    code, _, err = ended(again)
    assert code == 0, err
    assert set(statuses(path).values()) == {"completed"}
    assert_as_alone(path, tmp_path)


def test_a_killed_parent_leaves_no_process(path: Path, tmp_path: Path) -> None:
    process = start(command(path, *SLOW))
    wait_until(lambda: halfway(path))
    children = workers(process.pid)
    assert len(children) == 2
    second = ended(command(path, *SLOW))
    assert second[0] == 2
    assert f"process {process.pid} on " in second[2]
    process.kill()
    finish(process)
    wait_until(lambda: not any(map(alive, children)), seconds=5)
    code, _, err = ended(command(path, *SLOW))
    assert code == 0, err
    assert_as_alone(path, tmp_path)


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
    assert code == 0, err


def test_a_command_line_with_a_typo_starts_nothing(path: Path) -> None:
    code, out, err = ended(command(path, "optimizer.lrr=1,2"))
    assert (code, out) == (2, "")
    assert err == "optimizer.lrr=1,2: unknown key 'optimizer.lrr'; did you mean 'lr'?\n"
    assert not path.exists()
