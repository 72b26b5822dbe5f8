"""The controller of a detached sweep: it outlives kills and passes signals on."""

import signal
from pathlib import Path
from typing import Any

import pytest

from gan.launchers import controller
from gan.launchers.controller import (
    Controller,
    forget,
    is_controller,
    note_end,
    read_end,
    read_runs,
    read_state,
    save_state,
)


class Commands:
    """Stands in for `subprocess.Popen`: each command ends as the test says."""

    def __init__(self, *codes: int):
        self.codes = list(codes)
        self.commands: list[list[str]] = []
        self.signals: list[int] = []
        self.environment: dict[str, str] = {}
        self.on_wait: Any = None

    def __call__(self, command: list[str], env: dict[str, str]) -> "Commands":
        self.commands.append(command)
        self.environment = env
        return self

    def wait(self) -> int:
        """Return the exit code of the last command."""
        if self.on_wait:
            self.on_wait()
        return self.codes.pop(0)

    def send_signal(self, number: int) -> None:
        """Note a signal."""
        self.signals.append(number)


def use(monkeypatch: pytest.MonkeyPatch, commands: Commands) -> Commands:
    """Let controllers run these commands."""
    monkeypatch.setattr("subprocess.Popen", commands)
    return commands


def test_killed_command_is_run_again_without_the_failed_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = use(monkeypatch, Commands(-9, -9, 0))
    assert Controller(tmp_path, ["retry_failed=true", "n_jobs=2"]).run() == 0
    words = [command[3:] for command in commands.commands]
    first = ["resume", str(tmp_path), "retry_failed=true", "n_jobs=2"]
    assert words == [first, *[[word for word in first if "retry" not in word]] * 2]


def test_controller_that_its_cluster_begins_again_tries_no_failed_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = use(monkeypatch, Commands(0))
    Controller(tmp_path, ["retry_failed=true", "n_jobs=2"], is_repeated=True).run()
    assert commands.commands[0][3:] == ["resume", str(tmp_path), "n_jobs=2"]


@pytest.mark.parametrize(
    ("numbers", "is_requeued"),
    [((signal.SIGUSR1,), True), ((signal.SIGUSR1, signal.SIGTERM), False), ((), False)],
)
def test_controller_that_is_out_of_time_and_not_stopped_begins_again(
    numbers: tuple[signal.Signals, ...],
    is_requeued: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    requeued: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, check: requeued.append(command))
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr("sys.argv", ["controller", str(tmp_path)])
    commands = use(monkeypatch, Commands(3))
    commands.on_wait = lambda: [handlers[number](number, None) for number in numbers]
    save_state(tmp_path, "Slurm job 17")
    with pytest.raises(SystemExit) as ended:
        controller.main()
    assert ended.value.code == 3
    assert requeued == ([["scontrol", "requeue", "17"]] if is_requeued else [])
    assert read_end(tmp_path) == (None if is_requeued else 3)
    assert read_state(tmp_path) == ("Slurm job 17" if is_requeued else None)


@pytest.mark.parametrize(("codes", "code"), [([1], 1), ([-9] * 9, -9), ([-11], -11)])
def test_command_that_fails_is_not_run_for_ever(
    codes: list[int], code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = use(monkeypatch, Commands(*codes))
    assert Controller(tmp_path, []).run() == code
    assert len(commands.commands) <= 1 + controller.RESTARTS


def test_stopped_command_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = use(monkeypatch, Commands(-9, 0))
    own = Controller(tmp_path, [])
    commands.on_wait = own.stop
    assert own.run() == -9
    assert commands.signals == [signal.SIGTERM]
    assert len(commands.commands) == 1


def test_command_knows_nothing_of_the_job_of_its_controller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = use(monkeypatch, Commands(0))
    for name in ("SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "SBATCH_PARTITION", "SLURM_CONF"):
        monkeypatch.setenv(name, "7")
    Controller(tmp_path, []).run()
    assert {name for name in commands.environment if name.startswith(("SLURM", "SBATCH"))} == {
        "SLURM_CONF"
    }
    assert not is_controller()
    for name, value in commands.environment.items():
        monkeypatch.setenv(name, value)
    assert is_controller()


def test_name_of_a_controller_is_kept_until_it_is_gone(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    save_state(tmp_path, "Slurm job 17")
    assert read_state(tmp_path) == "Slurm job 17"
    assert (read_runs(tmp_path), read_end(tmp_path)) == (None, None)
    save_state(tmp_path, "Slurm job 17", 8)
    note_end(tmp_path, 1)
    assert (read_runs(tmp_path), read_end(tmp_path)) == (8, 1)
    for damaged in ("{", "{}", "[]", '"a"', '{"runs": "x"}'):
        (tmp_path / controller.STATE_FILE).write_text(damaged)
        found = (read_state(tmp_path), read_end(tmp_path), read_runs(tmp_path))
        assert found == (None, None, None)
    forget(tmp_path)
    forget(tmp_path)
    assert not any(tmp_path.iterdir())
