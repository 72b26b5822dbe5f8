"""The Ray launcher on a real cluster of two nodes on this machine: run with -m slow."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sweep_commands import (
    COHORTS,
    PRUNED_SEARCH,
    TESTS,
    Begin,
    assert_alike_to_undisturbed,
    assert_pruned_as_on_this_machine,
    assert_same_as_undisturbed,
    checkpoint_steps,
    execute,
    failure_lines,
    finish,
    is_alive,
    kill,
    processes_of,
    resume_command,
    statuses,
    sweep_command,
    training_processes,
    wait_for_two_to_save,
    wait_until,
)

pytestmark = pytest.mark.slow
INSTALL = 'pip install "gan-sweeps[ray]"'
GRID = (
    "loss._target_=faulty_losses.slow",
    "optimizer.lr=1e-4,2e-4",
    "seed=1,2",
    "trainer.max_steps=200",
)
NODE = {"num_cpus": 1, "object_store_memory": 100 * 1024**2, "include_dashboard": False}
"""The settings of each node of the cluster."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a cluster of one node, to which a test adds others."""
    utils = pytest.importorskip("ray.cluster_utils", reason=f"no Ray: {INSTALL}")
    # The nodes find the faulty losses there.
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    started = utils.Cluster(initialize_head=True, head_node_args=NODE)
    yield started
    started.shutdown()


def ray_command(path: Path, address: str, *overrides: str) -> list[str]:
    """Return the command line of a sweep by the Ray cluster at an address."""
    launcher = ("hydra/launcher=ray", f"hydra.launcher.address={address}")
    return sweep_command(path, *launcher, *overrides)


def test_runs_of_a_removed_node_and_of_a_killed_process_go_on(
    begin: Begin, cluster: Any, path: Path, tmp_path: Path
) -> None:
    second = cluster.add_node(**NODE)
    process = begin(ray_command(path, cluster.address, *GRID))
    wait_for_two_to_save(path)
    assert len(training_processes(path)) == 2
    cluster.remove_node(second, allow_graceful=False)
    wait_until(lambda: len(training_processes(path)) == 1)
    cluster.add_node(**NODE)
    wait_for_two_to_save(path)
    kill(min(training_processes(path).values()))
    code, out, err = finish(process)
    assert code == 0, out + err
    lost = [line for line in out.splitlines() if line.endswith("; trying again")]
    assert len(lost) == 2, out
    assert all("its Ray task ended in " in line for line in lost)
    assert not (path / ".ray").exists()
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_same_as_undisturbed(path, tmp_path)


def test_stopped_and_killed_sweep_is_resumed(
    begin: Begin, cluster: Any, path: Path, tmp_path: Path
) -> None:
    cluster.add_node(**NODE)
    process = begin(ray_command(path, cluster.address, *GRID))
    wait_for_two_to_save(path)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert set(statuses(path).values()) == {"interrupted"}
    assert not training_processes(path)
    process = begin(resume_command(path))
    wait_for_two_to_save(path)
    # The tasks of a killed parent end with it.
    process.kill()
    finish(process)
    wait_until(lambda: not training_processes(path))
    code, out, err = execute(resume_command(path))
    assert code == 0, out + err
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_same_as_undisturbed(path, tmp_path)


def test_ray_that_is_started_for_the_sweep_runs_it_and_ends_with_it(
    begin: Begin, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    fault = tmp_path / "fault"
    fault.touch()
    monkeypatch.setenv("FAULTY", str(fault))
    losses = "loss._target_=faulty_losses.raises,faulty_losses.hangs,gan.losses.non_saturating"
    limits = ("hydra.launcher.timeout=20", "hydra.launcher.retries=0")
    memory = "hydra.launcher.object_store_memory=100000000"
    code, out, err = execute(ray_command(path, "local", losses, memory, *limits))
    assert code == 1, err
    lines = failure_lines(out)
    assert "RuntimeError: no such loss" in lines["_target_=faulty_losses.raises"]
    assert "took longer than 20 s" in lines["_target_=faulty_losses.hangs"]
    process = begin(resume_command(path, "retry_failed=true"))
    wait_until(lambda: training_processes(path))
    tasks = list(training_processes(path).values())
    process.kill()
    finish(process)
    wait_until(lambda: not any(map(is_alive, tasks)))
    fault.unlink()
    code, out, err = execute(resume_command(path, "retry_failed=true"))
    assert code == 0, out + err
    assert set(statuses(path).values()) == {"completed"}


def test_runs_of_a_cohort_are_alike_to_runs_alone(cluster: Any, path: Path, tmp_path: Path) -> None:
    settings = ("seed=1,2,3,4", *GRID[:2], "trainer.max_steps=90", "logging.tensorboard=true")
    code, out, err = execute(ray_command(path, cluster.address, *COHORTS, *settings))
    assert code == 0, out + err
    assert "8 runs in a process" in out
    assert not (path / ".ray").exists()
    assert list(statuses(path).values()) == ["completed"] * 8
    assert_alike_to_undisturbed(path, tmp_path)


@pytest.mark.parametrize(
    "how", [("hydra.launcher.n_jobs=2",), (*COHORTS, "hydra.launcher.max_group=2")]
)
def test_search_prunes_its_runs(cluster: Any, path: Path, how: tuple[str, ...]) -> None:
    cluster.add_node(**NODE)
    code, out, err = execute(ray_command(path, cluster.address, *PRUNED_SEARCH, *how), timeout=600)
    assert code == 0, out + err
    assert_pruned_as_on_this_machine(path)


def test_stopped_and_killed_cohorts_go_on(
    begin: Begin, cluster: Any, path: Path, tmp_path: Path
) -> None:
    command = ray_command(path, cluster.address, *GRID, *COHORTS, "logging.tensorboard=true")
    process = begin(command)
    wait_until(lambda: len(checkpoint_steps(path)) == 4)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert set(statuses(path).values()) == {"interrupted"}
    before = checkpoint_steps(path)
    process = begin(resume_command(path))
    wait_until(lambda: min(checkpoint_steps(path).values()) > max(before.values()) + 10)
    (task,) = processes_of("ray::execute_cohort")
    kill(task)
    code, out, err = finish(process)
    assert code == 0, out + err
    assert out.count("from now on in a cohort of at most 2") == 4, out
    assert not (path / ".ray").exists()
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_alike_to_undisturbed(path, tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "auto"])
def test_cluster_that_does_not_answer_is_told_in_one_line(path: Path, address: str) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    code, _, err = execute(ray_command(path, address, "seed=1,2"))
    assert code == 2
    assert err.count("\n") == 1
    assert f"hydra.launcher.address={address}: " in err
    assert not path.exists()


def test_run_that_does_not_fit_on_this_machine_is_refused(path: Path) -> None:
    pytest.importorskip("ray", reason=f"no Ray: {INSTALL}")
    code, _, err = execute(ray_command(path, "local", "seed=1,2", "hydra.launcher.num_gpus=9"))
    assert code == 2
    assert err == "hydra/launcher=ray: this machine does not have 1 CPU, 9 GPU for a run\n"
