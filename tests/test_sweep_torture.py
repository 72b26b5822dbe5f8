"""The long way to show that a sweep survives anything: minutes long, run with -m slow."""

import random
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from runs import content
from sweep_cases import (
    alive,
    checkpoints,
    command,
    finish,
    kill,
    resume_command,
    start,
    wait_until,
    workers,
)

from gan.run.directory import read_config
from gan.run.result import read_result
from gan.train import run

WORKER_KILLS = 30
PARENT_KILLS = 5
GRID = (
    "loss._target_=faulty.slow",
    "optimizer.lr=1e-4,2e-4,4e-4",
    "model.hidden_dim=16,32",
    "seed=1,2,3,4",
    "trainer.max_steps=150",
    "hydra.launcher.retries=100",
)


def wait_for_workers(parent: int) -> None:
    wait_until(lambda: workers(parent))


def wait_for_end(pids: list[int]) -> None:
    wait_until(lambda: not any(map(alive, pids)), seconds=5)


@pytest.mark.slow
def test_a_grid_survives_kills_of_workers_and_parents(tmp_path: Path) -> None:
    path, chance = tmp_path / "sweep", random.Random(0)
    kills = ["worker"] * WORKER_KILLS
    # Spread over the sweep, the first ones early.
    for index in range(PARENT_KILLS):
        kills.insert(3 + 6 * index, "parent")
    process = start(command(path, *GRID))
    ends: dict[str, list[float]] = {}
    seen: set[int] = set()

    def look() -> None:
        seen.update(workers(process.pid))
        for file in path.glob("*/result.json"):
            result = read_result(file.parent)
            if result and result["status"] == "completed":
                times = ends.setdefault(file.parent.name, [])
                if file.stat().st_mtime not in times:
                    times.append(file.stat().st_mtime)

    def wait(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.poll() is None:
            look()
            time.sleep(0.05)

    def wait_for_checkpoint(known: set[Path]) -> None:
        wait_until(lambda: checkpoints(path) - known)

    for kind in kills:
        # Some in the middle of a run, the others at any time: before a worker has imported
        # anything, or at work on its first steps.
        if chance.random() < 0.5:
            before = checkpoints(path)
            wait_for_checkpoint(before)
        wait(chance.uniform(0.1, 3.0))
        assert process.poll() is None, finish(process)
        wait_for_workers(process.pid)
        if kind == "worker":
            kill(chance.choice(workers(process.pid)))
            continue
        children = workers(process.pid)
        process.kill()
        finish(process)
        wait_for_end(children)
        again = chance.choice([resume_command(path), command(path, *GRID)])
        process = start(again)
    while process.poll() is None:
        wait(1)
    look()
    code, _, err = finish(process)
    assert code == 0, err
    assert [pid for pid in seen if alive(pid)] == []
    assert len(ends) == 24
    assert all(len(times) == 1 for times in ends.values()), "a run ended twice"
    for name in ends:
        cfg = read_config(path / name)
        OmegaConf.update(cfg, "loss._target_", "gan.losses.non_saturating")
        run(cfg, tmp_path / name)
        assert content(path / name) == content(tmp_path / name), name
