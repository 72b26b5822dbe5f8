"""Sweeps on a real Slurm of one node: run with -m slow where its programs are installed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import INSTALL, missing, slurm_cluster
from sweep_cases import (
    Begin,
    both_have_more,
    ended,
    finish,
    newest,
    resume_command,
    run_processes,
    same_as_alone,
    statuses,
    wait_until,
)
from sweep_cases import command as sweep_command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"no {', '.join(missing())}: {INSTALL}"),
]
GRID = ("loss._target_=faulty.slow", "optimizer.lr=1e-4,2e-4", "seed=1,2", "trainer.max_steps=200")


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    pytest.importorskip("submitit", reason='no submitit: pip install -e ".[slurm]"')
    with (
        slurm_cluster(tmp_path_factory.mktemp("slurm")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


def command(path: Path, *overrides: str) -> list[str]:
    launcher = ("hydra/launcher=slurm", "hydra.launcher.partition=low")
    return sweep_command(path, *launcher, "hydra.launcher.cpus_per_task=1", *overrides)


def told(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def jobs(*states: str) -> list[str]:
    """Those in these states, or all that have not ended."""
    chosen = [f"--states={','.join(states)}"] if states else []
    return told("squeue", "--noheader", "--array", "--format=%i", *chosen)


def test_preempted_killed_and_on_a_dead_node(begin: Begin, path: Path, tmp_path: Path) -> None:
    process = begin(command(path, *GRID))
    both_have_more(path)
    assert len(jobs("RUNNING")) == 2
    assert len(jobs("PENDING")) == 2
    # Two are preempted by a job that needs the whole node.
    told("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1")
    wait_until(lambda: not run_processes(path))
    assert "interrupted" in statuses(path)
    both_have_more(path)
    # One is killed.
    os.kill(min(run_processes(path).values()), signal.SIGKILL)
    both_have_more(path)
    # The node goes down, and comes back.
    (node,) = told("sinfo", "--noheader", "--format=%n")
    told("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_until(lambda: not run_processes(path))
    told("scontrol", "update", f"nodename={node}", "state=resume")
    code, out, err = finish(process, timeout=180)
    assert code == 0, out + err
    assert out.count("was preempted; goes on when there is room") == 2, out
    assert out.count("FAILED, killed by SIGKILL; trying again") == 1, out
    assert out.count("NODE_FAIL; trying again") >= 1, out
    assert not (path / ".slurm").exists()
    assert statuses(path) == {"completed"}
    same_as_alone(path, tmp_path)


def test_stopped_and_left_alone(begin: Begin, path: Path, tmp_path: Path) -> None:
    process = begin(command(path, *GRID))
    both_have_more(path)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert jobs() == []
    assert statuses(path) == {"interrupted"}
    # The jobs of a parent that is killed run on, until another one takes over.
    process = begin(resume_command(path))
    both_have_more(path)
    process.kill()
    finish(process)
    left = jobs("RUNNING")
    assert len(left) == 2
    process = begin(resume_command(path))
    wait_until(lambda: not set(left) & set(jobs()))
    both_have_more(path)
    # What Slurm sends before the time is up.
    os.kill(min(run_processes(path).values()), signal.SIGUSR2)
    code, out, err = finish(process, timeout=180)
    assert code == 0, out + err
    assert out.count("ran out of time; goes on when there is room") == 1, out
    assert statuses(path) == {"completed"}
    same_as_alone(path, tmp_path)


def test_what_fails_is_told(
    begin: Begin, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "faulty").touch()
    monkeypatch.setenv("FAULTY", str(tmp_path / "faulty"))
    losses = "faulty.raises,faulty.slow,gan.losses.non_saturating"
    retries = "hydra.launcher.retries=0"
    process = begin(command(path, f"loss._target_={losses}", "trainer.max_steps=600", retries))
    wait_until(lambda: "_target_=faulty.slow" in newest(path))
    wait_until(lambda: len(jobs()) == 1)
    told("scancel", *jobs("RUNNING"))
    code, out, err = finish(process)
    assert code == 1
    assert "2 of 3 runs failed" in err
    failed = {line.split(": ")[1]: line for line in out.splitlines() if line.startswith("failed: ")}
    assert "RuntimeError: no such loss" in failed["_target_=faulty.raises"]
    assert "was cancelled by scancel" in failed["_target_=faulty.slow"]


def test_what_slurm_refuses(path: Path) -> None:
    code, _, err = ended(command(path, "seed=1,2", "hydra.launcher.partition=lwo"))
    assert code == 2
    assert err.count("\n") == 1
    assert "Slurm takes no jobs: " in err
    assert "partition" in err
