"""Work that does not depend on the console, on its characters, or on Python's environment."""

import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from sweep_commands import (
    SCRIPTS,
    TINY,
    checkpoints,
    kill,
    resume_command,
    statuses,
    sweep_command,
    wait_until,
)

ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""An environment in which the names of files and the console are ASCII."""
COMPLETED = {"seed=1": "completed", "seed=2": "completed"}
SEEDS = "seed=1,2"


def script(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]


def in_shell(command: list[str], after: str, **environment: str) -> tuple[int, str]:
    """Return the exit code and the errors of a command with a redirection or a pipe behind it."""
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join(command)} {after}; exit ${{PIPESTATUS[0]}}"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
    )
    return done.returncode, done.stderr.decode()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs whose reader has gone after the first line."""
    path = tmp_path_factory.mktemp("console") / "sweep"
    command = sweep_command(path, SEEDS, "logging.tensorboard=true")
    assert in_shell(command, "| head -1 > /dev/null") == (0, "")
    return path


def test_a_sweep_goes_on_without_a_reader(sweep: Path) -> None:
    assert statuses(sweep) == COMPLETED


@pytest.mark.parametrize(
    "after",
    [
        "> /dev/full",
        *(pytest.param(f, marks=pytest.mark.slow) for f in ("> /dev/full 2>&1", "<&- >&- 2>&-")),
    ],
)
def test_a_run_goes_on_where_nothing_can_be_printed(tmp_path: Path, after: str) -> None:
    run_dir = tmp_path / "run"
    code, errors = in_shell(script("train", *TINY, f"hydra.run.dir={run_dir}"), after)
    assert code == 0
    assert len(errors.splitlines()) == (after == "> /dev/full")
    assert json.loads((run_dir / "result.json").read_text())["status"] == "completed"
    assert in_shell(resume_command(run_dir), after)[0] == 0


@pytest.mark.parametrize(
    "name",
    [
        "compare",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("clean", "generate", "evaluate")),
    ],
)
def test_a_command_whose_output_is_lost_says_so(sweep: Path, tmp_path: Path, name: str) -> None:
    run_dir = sweep / "seed=1"
    out = [f"out={tmp_path / 'samples.png'}", "n=4"] if name == "generate" else []
    code, errors = in_shell(script(name, run_dir, *out), "> /dev/full")
    assert (code, errors) == (
        1,
        "standard output: cannot be written (No space left on device)\n",
    )
    assert in_shell(script(name, "--help"), "| true")[1] == ""


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of its own: the end of the user, and that of a program."""
    user, program = pty.openpty()
    yield user, program
    for handle in (user, program):
        with suppress(OSError):
            os.close(handle)


@pytest.mark.slow
@pytest.mark.parametrize("ignores", [False, True])
def test_a_closed_terminal_interrupts_a_sweep_unless_it_ignores_hangups(
    tmp_path: Path, terminal: tuple[int, int], ignores: bool
) -> None:
    user, program = terminal
    sweep_dir = tmp_path / "sweep"
    steps = 1000 if ignores else 1000000

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if ignores:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(
        sweep_command(sweep_dir, SEEDS, f"trainer.max_steps={steps}"),
        stdin=program,
        stdout=program,
        stderr=program,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(program)
    try:
        wait_until(lambda: len(checkpoints(sweep_dir)) > 1)
        os.close(user)
        code = process.wait(240)
    finally:
        kill(process.pid)
        process.wait()
    assert code == (0 if ignores else 128 + signal.SIGHUP)
    expected = COMPLETED if ignores else dict.fromkeys(COMPLETED, "interrupted")
    assert statuses(sweep_dir) == expected


@pytest.mark.slow
@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "ascii"}])
def test_a_sweep_below_a_folder_with_other_letters_trains_on_an_ascii_console(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "größe"
    folder.mkdir()
    command = [*script("train", "-m"), *TINY, SEEDS, "logging.tensorboard=true"]
    command += [f"hydra.sweep.dir='{folder}/sweep'", "notes='手写'"]
    assert in_shell(command, "> /dev/null", **environment) == (0, "")
    assert statuses(folder / "sweep") == COMPLETED
    for name in ("compare", "clean"):
        code, errors = in_shell(script(name, folder), "> /dev/null", **environment)
        assert (code, errors) == (0, "")


def test_commands_take_a_run_whose_name_is_not_utf8(sweep: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"r\xff")
    shutil.copytree(sweep / "seed=1", tmp_path / odd)
    execute = partial(subprocess.run, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "udcff" in execute(script("compare", ".", "format=table")).stdout
    assert "completed" in execute(script("resume", odd)).stdout


@pytest.mark.slow
def test_warnings_that_are_errors_end_no_sweep(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    command = sweep_command(tmp_path / "sweep", SEEDS, "logging.tensorboard=true")
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path / "sweep") == COMPLETED
