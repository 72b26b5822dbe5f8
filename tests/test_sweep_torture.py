"""The long way to show that a sweep survives anything: minutes long, run with -m slow."""

import random
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from sweep_cases import alive, command, finish, kill, resume_command, start, wait_until, workers
from test_train import content

from gan.results import read_result
from gan.run_dir import read_config
from gan.train import run

WORKER_KILLS = 30
PARENT_KILLS = 5
GRID = (
    "loss._target_=faulty.slow",
    "optimizer.lr=1e-4,2e-4,4e-4",
    "model.hidden_dim=16,32",
    "seed=1,2,3,4",
    "trainer.max_steps=100",
    "hydra.launcher.retries=100",
)


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

    for kind in kills:
        # Now and then before a worker has imported anything, mostly in the middle of a run.
        wait(chance.uniform(0.2, 6.0))
        assert process.poll() is None, finish(process)
        wait_until(lambda pid=process.pid: workers(pid))
        if kind == "worker":
            kill(chance.choice(workers(process.pid)))
            continue
        children = workers(process.pid)
        process.kill()
        finish(process)
        wait_until(lambda pids=children: not any(map(alive, pids)), seconds=5)
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
