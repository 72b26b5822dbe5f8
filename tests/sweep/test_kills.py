"""Sweeps in real processes: runs that fail, processes that are killed, and signals to stop."""

import random
import signal
import time
from pathlib import Path

import pytest
from sweep_commands import (
    assert_same_as_undisturbed,
    checkpoints,
    children,
    execute,
    failure_lines,
    finish,
    is_alive,
    kill,
    resume_command,
    start,
    statuses,
    sweep_command,
    wait_until,
)

from gan.run.result import read_result

SLOW_RUNS = ("loss._target_=faulty_losses.slow", "seed=1,2,3", "trainer.max_steps=90")
WORKER_KILLS = 30
PARENT_KILLS = 5
GRID = (
    "loss._target_=faulty_losses.slow",
    "optimizer.lr=1e-4,2e-4,4e-4",
    "model.hidden_dim=16,32",
    "seed=1,2,3,4",
    "trainer.max_steps=150",
    "hydra.launcher.retries=100",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


@pytest.fixture
def fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that makes faulty losses go wrong as long as it exists."""
    file = tmp_path / "fault"
    file.touch()
    monkeypatch.setenv("FAULTY", str(file))
    return file


def test_failing_runs_are_explained_and_do_not_disturb_others(path: Path, fault: Path) -> None:
    # The run that hangs has a sweep to itself, so that no other run can exceed the time limit.
    hangs = "loss._target_=choice(faulty_losses.hangs)"
    no_retries = "hydra.launcher.retries=0"
    code, out, err = execute(sweep_command(path, hangs, no_retries, "hydra.launcher.timeout=3"))
    assert code == 1, err
    assert "1 of 1 runs failed" in err
    names = ("hangs", "raises", "is_killed", "diverges")
    faulty = ",".join(f"faulty_losses.{name}" for name in names)
    losses = f"loss._target_={faulty},gan.losses.non_saturating"
    code, out, err = execute(sweep_command(path, losses, no_retries))
    assert code == 1, err
    assert "4 to run, 0 done before" in out
    assert "3 of 5 runs failed" in err
    assert "retry_failed=true" in err
    lines = failure_lines(out)
    assert "RuntimeError: no such loss" in lines["_target_=faulty_losses.raises"]
    assert "killed by SIGKILL" in lines["_target_=faulty_losses.is_killed"]
    assert "took longer than 3 s" in lines["_target_=faulty_losses.hangs"]
    for line in lines.values():
        assert Path(line.rpartition("log: ")[2]).is_file()
    log = (path / "_target_=faulty_losses.raises" / "train.log").read_text()
    assert "Traceback" in log
    ends = statuses(path)
    assert ends["_target_=faulty_losses.diverges"] == "diverged"
    assert ends["_target_=gan.losses.non_saturating"] == "completed"

    fault.unlink()
    code, out, err = execute(resume_command(path))
    assert code == 1
    assert "to run" not in out
    code, out, err = execute(resume_command(path, "retry_failed=true"))
    assert code == 0, err
    assert "3 to run, 2 done before" in out
    ends = statuses(path)
    assert ends.pop("_target_=faulty_losses.diverges") == "diverged"
    assert set(ends.values()) == {"completed"}


def test_disturbed_sweep_ends_with_the_same_runs_as_an_undisturbed_one(
    path: Path, tmp_path: Path
) -> None:
    # A worker is killed, and replaced.
    process = start(sweep_command(path, *SLOW_RUNS))
    wait_until(lambda: len({file.parent for file in checkpoints(path)}) == 2)
    killed, other = children(process.pid)
    kill(killed)
    wait_until(lambda: len(children(process.pid)) == 2)
    assert process.poll() is None
    assert other in children(process.pid)
    # A second process is refused.
    second = execute(sweep_command(path, *SLOW_RUNS))
    assert second[0] == 2
    assert f"process {process.pid} on " in second[2]
    # The parent is killed, and its workers end by themselves.
    workers = children(process.pid)
    process.kill()
    assert "killed by SIGKILL" in finish(process)[1]
    wait_until(lambda: not any(map(is_alive, workers)), seconds=5)
    for number, command in (
        (signal.SIGINT, sweep_command(path, *SLOW_RUNS)),
        (signal.SIGTERM, resume_command(path)),
    ):
        before = checkpoints(path)
        process = start(command)
        wait_until(lambda: checkpoints(path) - before)  # noqa: B023
        workers = children(process.pid)
        process.send_signal(number)
        code, _, err = finish(process)
        assert code == 128 + number
        assert err.count("\n") == 1
        assert f"{path}: stopped by {number.name} with " in err
        assert f"resume.py {path}" in err
        assert not any(map(is_alive, workers))
    code, _, err = execute(resume_command(path))
    assert code == 0, err
    assert list(statuses(path).values()) == ["completed"] * 3
    assert_same_as_undisturbed(path, tmp_path)


@pytest.mark.slow
def test_grid_survives_thirty_killed_workers_and_five_killed_parents(
    path: Path, tmp_path: Path
) -> None:
    chance = random.Random(0)
    kills = ["worker"] * WORKER_KILLS
    # The kills of parents are spread over the sweep, the first of them early.
    for index in range(PARENT_KILLS):
        kills.insert(3 + 6 * index, "parent")
    process = start(sweep_command(path, *GRID))
    times_of_end: dict[str, set[float]] = {}
    seen_workers: set[int] = set()

    def look() -> None:
        seen_workers.update(children(process.pid))
        for file in path.glob("*/result.json"):
            result = read_result(file.parent)
            if result and result["status"] == "completed":
                times_of_end.setdefault(file.parent.name, set()).add(file.stat().st_mtime)

    def look_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None:
            look()
            time.sleep(0.05)

    def wait_for_checkpoint() -> None:
        before = checkpoints(path)
        wait_until(lambda: checkpoints(path) - before)

    def wait_for_workers() -> None:
        wait_until(lambda: children(process.pid))

    def kill_parent() -> None:
        workers = children(process.pid)
        process.kill()
        finish(process)
        wait_until(lambda: not any(map(is_alive, workers)), seconds=5)

    for kind in kills:
        # Half of the kills come in the middle of a run. The others come at any time: before a
        # worker has imported anything, or during its first steps.
        if chance.random() < 0.5:
            wait_for_checkpoint()
        look_for(chance.uniform(0.1, 3.0))
        assert process.poll() is None, finish(process)
        wait_for_workers()
        if kind == "worker":
            kill(chance.choice(children(process.pid)))
        else:
            kill_parent()
            process = start(chance.choice([resume_command(path), sweep_command(path, *GRID)]))
    while process.poll() is None:
        look_for(1)
    look()
    code, _, err = finish(process)
    assert code == 0, err
    assert [pid for pid in seen_workers if is_alive(pid)] == []
    assert len(times_of_end) == 24
    assert all(len(times) == 1 for times in times_of_end.values()), "a run ended twice"
    assert set(statuses(path)) == set(times_of_end)
    assert_same_as_undisturbed(path, tmp_path)
