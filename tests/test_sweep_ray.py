"""Sweeps on a real Ray cluster of two nodes on this machine: run with -m slow where it is
installed."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_cases import (
    Begin,
    alive,
    both_have_more,
    ended,
    finish,
    kill,
    resume_command,
    run_processes,
    same_as_alone,
    statuses,
    wait_until,
)
from sweep_cases import command as sweep_command

pytestmark = pytest.mark.slow
INSTALL = 'pip install -e ".[ray]"'
GRID = ("loss._target_=faulty.slow", "optimizer.lr=1e-4,2e-4", "seed=1,2", "trainer.max_steps=200")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head with one core; further nodes are added to it."""
    utils = pytest.importorskip("ray.cluster_utils", reason=f"no Ray: {INSTALL}")
    # Where the nodes find faulty.py.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = utils.Cluster(initialize_head=True, head_node_args=node())
    yield made
    made.shutdown()


def node() -> dict[str, Any]:
    return {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "include_dashboard": False}


def command(path: Path, address: str, *overrides: str) -> list[str]:
    launcher = ("hydra/launcher=ray", f"hydra.launcher.address={address}")
    return sweep_command(path, *launcher, *overrides)


def test_a_node_removed_and_a_process_killed(
    begin: Begin, cluster: Any, path: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(**node())
    process = begin(command(path, cluster.address, *GRID))
    both_have_more(path)
    assert len(run_processes(path)) == 2
    cluster.remove_node(second, allow_graceful=False)
    wait_until(lambda: len(run_processes(path)) == 1)
    cluster.add_node(**node())
    both_have_more(path)
    kill(min(run_processes(path).values()))
    code, out, err = finish(process, timeout=180)
    assert code == 0, out + err
    lost = [line for line in out.splitlines() if line.endswith("; trying again")]
    assert len(lost) == 2, out
    assert all("its Ray task ended in " in line for line in lost)
    assert not (path / ".ray").exists()
    assert statuses(path) == {"completed"}
    same_as_alone(path, tmp_path)


def test_stopped_and_killed(begin: Begin, cluster: Any, path: Path, tmp_path: Path) -> None:
    cluster.add_node(**node())
    process = begin(command(path, cluster.address, *GRID))
    both_have_more(path)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert statuses(path) == {"interrupted"}
    assert not run_processes(path)
    process = begin(resume_command(path))
    both_have_more(path)
    # What a process that is killed has started on the cluster ends with it.
    process.kill()
    finish(process)
    wait_until(lambda: not run_processes(path))
    code, out, err = ended(resume_command(path))
    assert code == 0, out + err
    assert statuses(path) == {"completed"}
    same_as_alone(path, tmp_path)


def test_a_cluster_of_its_own(
    begin: Begin, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    (tmp_path / "faulty").touch()
    monkeypatch.setenv("FAULTY", str(tmp_path / "faulty"))
    wrong = "loss._target_=faulty.raises,faulty.hangs,gan.losses.non_saturating"
    limits = ("hydra.launcher.timeout=20", "hydra.launcher.retries=0")
    memory = "hydra.launcher.object_store_memory=100000000"
    code, out, err = ended(command(path, "local", wrong, memory, *limits))
    assert code == 1, err
    failed = {line.split(": ")[1]: line for line in out.splitlines() if line.startswith("failed: ")}
    assert "RuntimeError: no such loss" in failed["_target_=faulty.raises"]
    assert "took longer than 20 s" in failed["_target_=faulty.hangs"]
    process = begin(resume_command(path, "retry_failed=true"))
    wait_until(lambda: run_processes(path))
    children = list(run_processes(path).values())
    process.kill()
    finish(process)
    wait_until(lambda: not any(map(alive, children)))
    (tmp_path / "faulty").unlink()
    code, out, err = ended(resume_command(path, "retry_failed=true"))
    assert code == 0, out + err
    assert statuses(path) == {"completed"}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto"])
def test_a_cluster_that_is_not_there(path: Path, address: str) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    code, _, err = ended(command(path, address, "seed=1,2"))
    assert code == 2
    assert err.count("\n") == 1
    assert f"hydra.launcher.address={address}: " in err


def test_a_run_that_no_machine_has_room_for(path: Path) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    code, _, err = ended(command(path, "local", "seed=1,2", "hydra.launcher.num_gpus=9"))
    assert code == 2
    assert err == "hydra/launcher=ray: this machine does not have 1 CPU, 9 GPU for a run\n"
