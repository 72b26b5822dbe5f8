"""The Slurm launcher, most of it on a real Slurm of one node: run with -m slow."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import INSTALL, missing_programs, slurm_cluster
from sweep_commands import (
    COHORTS,
    PRUNED_SEARCH,
    Begin,
    assert_alike_to_undisturbed,
    assert_pruned_as_on_this_machine,
    assert_same_as_undisturbed,
    checkpoint_steps,
    execute,
    failure_lines,
    finish,
    kill,
    processes_of,
    resume_command,
    statuses,
    sweep_command,
    training_processes,
    wait_for_two_to_save,
    wait_until,
)

from gan.launchers.slurm import describe_wait_status, sbatch_errors
from gan.run.provenance import read_provenance

GRID = (
    "loss._target_=faulty_losses.slow",
    "optimizer.lr=1e-4,2e-4",
    "seed=1,2",
    "trainer.max_steps=200",
)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("0", ""),
        ("", ""),
        ("768", ", exit code 3"),
        ("9", ", killed by SIGKILL"),
        # A shell that ran the killed program reports 128 and the signal.
        (str((128 + 9) << 8), ", killed by SIGKILL"),
    ],
)
def test_wait_status_is_put_into_words(status: str, text: str) -> None:
    assert describe_wait_status(status) == text


def test_errors_of_sbatch_are_told_in_one_line() -> None:
    said = "Could not submit\nsbatch: error: invalid partition: lwo\nsbatch: error: it failed\n"
    assert sbatch_errors(said) == "invalid partition: lwo; it failed"
    assert sbatch_errors("of another\nkind") == "of another kind"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start a Slurm for the tests of this module."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: {INSTALL}")
    pytest.importorskip("submitit", reason='no submitit: pip install "gan-sweeps[slurm]"')
    with (
        slurm_cluster(tmp_path_factory.mktemp("slurm")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the directory of the sweep, which is not made yet."""
    return tmp_path / "sweep"


def slurm_command(path: Path, *overrides: str) -> list[str]:
    """Return the command line of a sweep by Slurm, two runs at a time."""
    launcher = ("hydra/launcher=slurm", "hydra.launcher.partition=low")
    return sweep_command(path, *launcher, "hydra.launcher.cpus_per_task=1", *overrides)


def output_of(*command: str) -> list[str]:
    """Return the words that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def slurm_jobs(*states: str) -> list[str]:
    """Return the Slurm jobs in these states, or all that have not ended."""
    chosen = [f"--states={','.join(states)}"] if states else []
    return output_of("squeue", "--noheader", "--array", "--format=%i", *chosen)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_preempted_and_killed_jobs_and_those_of_a_dead_node_go_on(
    begin: Begin, path: Path, tmp_path: Path
) -> None:
    process = begin(slurm_command(path, *GRID))
    wait_for_two_to_save(path)
    assert len(slurm_jobs("RUNNING")) == 2
    assert len(slurm_jobs("PENDING")) == 2
    # A job that needs the whole node preempts both.
    whole_node = ("--partition=high", "--cpus-per-task=4", "--output=/dev/null")
    output_of("sbatch", *whole_node, "--wrap=sleep 1")
    wait_until(lambda: not training_processes(path))
    assert "interrupted" in statuses(path).values()
    wait_for_two_to_save(path)
    # One is killed.
    os.kill(min(training_processes(path).values()), signal.SIGKILL)
    wait_for_two_to_save(path)
    # The node goes down, and comes back.
    (node,) = output_of("sinfo", "--noheader", "--format=%n")
    output_of("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_until(lambda: not training_processes(path))
    output_of("scontrol", "update", f"nodename={node}", "state=resume")
    code, out, err = finish(process)
    assert code == 0, out + err
    assert out.count("was preempted; goes on when there is room") == 2, out
    assert out.count("FAILED, killed by SIGKILL; trying again") == 1, out
    assert out.count("NODE_FAIL; trying again") >= 1, out
    assert not (path / ".slurm").exists()
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_same_as_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_stopped_sweep_and_jobs_of_a_killed_parent_go_on(
    begin: Begin, path: Path, tmp_path: Path
) -> None:
    process = begin(slurm_command(path, *GRID))
    wait_for_two_to_save(path)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert slurm_jobs() == []
    assert set(statuses(path).values()) == {"interrupted"}
    # The jobs of a killed parent run on until another process takes over.
    process = begin(resume_command(path))
    wait_for_two_to_save(path)
    process.kill()
    finish(process)
    left = slurm_jobs("RUNNING")
    assert len(left) == 2
    process = begin(resume_command(path))
    wait_until(lambda: not set(left) & set(slurm_jobs()))
    wait_for_two_to_save(path)
    # Slurm sends this signal before the time is up.
    os.kill(min(training_processes(path).values()), signal.SIGUSR2)
    code, out, err = finish(process)
    assert code == 0, out + err
    assert out.count("ran out of time; goes on when there is room") == 1, out
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_same_as_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_failing_and_cancelled_jobs_are_explained(
    begin: Begin, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fault").touch()
    monkeypatch.setenv("FAULTY", str(tmp_path / "fault"))
    losses = "faulty_losses.raises,faulty_losses.slow,gan.losses.non_saturating"
    settings = (f"loss._target_={losses}", "trainer.max_steps=600", "hydra.launcher.retries=0")
    process = begin(slurm_command(path, *settings))
    wait_until(lambda: "_target_=faulty_losses.slow" in checkpoint_steps(path))
    # The job of the second run has this index in the array.
    (slow_job,) = [job for job in slurm_jobs("RUNNING") if job.endswith("_1")]
    output_of("scancel", slow_job)
    code, out, err = finish(process)
    assert code == 1
    assert "2 of 3 runs failed" in err
    lines = failure_lines(out)
    assert "RuntimeError: no such loss" in lines["_target_=faulty_losses.raises"]
    assert "was cancelled by scancel" in lines["_target_=faulty_losses.slow"]


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_refusal_of_slurm_is_told_in_one_line(path: Path) -> None:
    code, _, err = execute(slurm_command(path, "seed=1,2", "hydra.launcher.partition=lwo"))
    assert code == 2
    assert err.count("\n") == 1
    assert "Slurm takes no jobs: " in err
    assert "partition" in err
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_runs_of_a_cohort_are_alike_to_runs_alone(path: Path, tmp_path: Path) -> None:
    settings = ("seed=1,2,3,4", *GRID[:2], "trainer.max_steps=90", "logging.tensorboard=true")
    code, out, err = execute(slurm_command(path, *COHORTS, *settings))
    assert code == 0, out + err
    assert "8 runs in a process" in out
    assert not (path / ".slurm").exists()
    assert list(statuses(path).values()) == ["completed"] * 8
    assert_alike_to_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize(
    "how", [("hydra.launcher.n_jobs=2",), (*COHORTS, "hydra.launcher.max_group=2")]
)
def test_search_prunes_its_runs(path: Path, how: tuple[str, ...]) -> None:
    code, out, err = execute(slurm_command(path, *PRUNED_SEARCH, *how), timeout=600)
    assert code == 0, out + err
    assert_pruned_as_on_this_machine(path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_preempted_and_killed_cohorts_go_on(
    begin: Begin, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorboard = "logging.tensorboard=true"
    process = begin(slurm_command(path, *GRID, *COHORTS, tensorboard))
    wait_until(lambda: len(checkpoint_steps(path)) == 4)
    assert len(slurm_jobs("RUNNING")) == 1
    whole_node = ("--partition=high", "--cpus-per-task=4", "--output=/dev/null")
    output_of("sbatch", *whole_node, "--wrap=sleep 1")
    wait_until(lambda: list(statuses(path).values()) == ["interrupted"] * 4)
    before = checkpoint_steps(path)
    wait_until(lambda: min(checkpoint_steps(path).values()) > max(before.values()) + 10)
    kill(max(processes_of("submitit.core._submit", str(path))))
    code, out, err = finish(process)
    assert code == 0, out + err
    assert out.count("was preempted; goes on when there is room") == 4, out
    assert out.count("killed by SIGKILL; from now on in a cohort of at most 2") == 4, out
    assert not (path / ".slurm").exists()
    assert list(statuses(path).values()) == ["completed"] * 4
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent))
    assert_alike_to_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_stopped_cohort_goes_on_and_so_do_the_runs_of_a_killed_parent(
    begin: Begin, path: Path, tmp_path: Path
) -> None:
    process = begin(slurm_command(path, *GRID, *COHORTS, "logging.tensorboard=true"))
    wait_until(lambda: len(checkpoint_steps(path)) == 4)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert "stopped by SIGINT with 4 of 4 runs left" in err
    assert set(statuses(path).values()) == {"interrupted"}
    process = begin(resume_command(path))
    wait_until(lambda: slurm_jobs("RUNNING"))
    process.kill()
    finish(process)
    code, out, err = execute(resume_command(path))
    assert code == 0, out + err
    assert list(statuses(path).values()) == ["completed"] * 4
    assert_alike_to_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_controller_that_does_not_answer_is_waited_for(begin: Begin, path: Path) -> None:
    process = begin(slurm_command(path, *GRID))
    wait_for_two_to_save(path)
    # The file of its settings lies beside that of its process.
    controller = int(Path(os.environ["SLURM_CONF"]).with_name("slurmctld.pid").read_text())
    os.kill(controller, signal.SIGSTOP)
    try:
        assert process.stdout is not None
        # The command ends by itself if it does not wait, and this loop with it.
        lines = iter(process.stdout.readline, "")
        assert any("Slurm does not answer; waiting for it" in line for line in lines)
    finally:
        os.kill(controller, signal.SIGCONT)
    code, out, err = finish(process)
    assert code == 0, out + err
    assert "does not answer" not in out
    assert list(statuses(path).values()) == ["completed"] * 4


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_two_processes_train_each_run_and_stop_together(begin: Begin, path: Path) -> None:
    command = ("hydra.launcher.processes=2", "hydra.launcher.cpus_per_task=2", "seed=1,2")
    code, _, err = execute(slurm_command(path, *command, "hydra.launcher.cpus_per_task=1"))
    assert code == 2
    assert "cpus_per_task=1: must be at least 2, a core for each of the processes" in err
    slow = ("loss._target_=faulty_losses.slow", "trainer.max_steps=200")
    process = begin(slurm_command(path, *command, *slow))
    wait_for_two_to_save(path)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130, err
    assert set(statuses(path).values()) == {"interrupted"}
    process = begin(resume_command(path))
    code, out, err = finish(process)
    assert code == 0, out + err
    assert list(statuses(path).values()) == ["completed"] * 2
    for run_dir in path.glob("seed=*"):
        note = read_provenance(run_dir)
        assert note
        assert {start["processes"] for start in note["starts"]} == {2}


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_detached_sweep_outlives_its_command_and_a_killed_process(
    path: Path, tmp_path: Path
) -> None:
    words = (*GRID, "seed=1,2,3,4", "hydra.launcher.n_jobs=3", "hydra.launcher.detach=true")
    code, out, err = execute(slurm_command(path, *words))
    assert code == 0, out + err
    assert "drives this sweep from now on" in out
    wait_until(lambda: len(checkpoint_steps(path)) > 1)
    code, _, err = execute(slurm_command(path, *words))
    assert code == 2
    assert "drives this sweep; follow it by: " in err
    (driver,) = processes_of(" gan resume ", str(path))
    kill(driver)
    code, out, err = execute(resume_command(path), timeout=600)
    assert code == 0, out + err
    assert "following Slurm job" in out
    assert list(statuses(path).values()) == ["completed"] * 8
    assert "ending the Slurm jobs of an earlier process" in (path / "controller.log").read_text()
    assert not (path / ".controller").exists()
    assert not slurm_jobs()
    assert_same_as_undisturbed(path, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_detached_search_is_stopped_and_taken_up(path: Path) -> None:
    search = (*PRUNED_SEARCH, "hydra.launcher.n_jobs=2", "hydra.launcher.detach=true")
    code, out, err = execute(slurm_command(path, *search))
    assert code == 0, out + err
    wait_until(lambda: len(checkpoint_steps(path)) > 1)
    code, out, err = execute(resume_command(path, "stop=true"), timeout=120)
    assert code == 0, out + err
    assert not slurm_jobs()
    assert "interrupted" in statuses(path).values()
    code, out, err = execute(resume_command(path), timeout=600)
    assert code == 0, out + err
    assert_pruned_as_on_this_machine(path)
