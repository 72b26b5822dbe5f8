"""Commands in messages: they work in the shell of the user who reads them."""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from gan.system.invocation import COMMANDS, as_typed_here, command, command_line, module_command

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def activated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shell find the programs of this environment, as after `activate`."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("activated")
@pytest.mark.parametrize(
    ("started", "folder", "expected"),
    [
        ("scripts/train.py", ".", "python scripts/resume.py"),
        ("train.py", "scripts", "python resume.py"),
        ("../scripts/train.py", "tests", "python ../scripts/resume.py"),
        (str(BIN / "gan"), "tests", "gan resume"),
        # A test runner, a notebook or a worker.
        ("/somewhere/launcher.py", ".", "gan resume"),
    ],
)
def test_a_command_is_shown_in_the_way_in_which_the_program_was_started(
    started: str, folder: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / folder)
    monkeypatch.setattr(sys, "argv", [started])
    assert command_line("resume", "a") == f"{expected} a"


def test_a_program_of_that_name_elsewhere_is_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gan", "python"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["elsewhere.py"])
    assert command("train") == [str(BIN / "gan"), "train"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts/train.py")])
    assert command("train") == [sys.executable, str(ROOT / "scripts/train.py")]


def test_without_the_program_a_command_is_run_by_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["elsewhere.py"])
    assert command("train")[1:] == ["-m", "gan", "train"]


@pytest.mark.parametrize("path", ["my run", "it's", "a;b", "a&b", "$HOME", "*", "lr=1e-4,seed=0"])
def test_a_path_in_a_command_arrives_as_it_was(path: str) -> None:
    line = command_line("resume", Path(path))
    (*_, arrived) = shlex.split(line)
    assert arrived == path
    echoed = subprocess.run(
        ["bash", "-c", f"printf %s {line.partition('resume ')[2]}"], capture_output=True, text=True
    )
    assert echoed.stdout == path


def test_help_names_the_scripts_to_those_who_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts/train.py")])
    text = as_typed_here("gan train-classifier, gan train X, `gan clean`, gan training, a gan")
    start = f"{command('train')[0]} {ROOT / 'scripts'}"
    assert text == (
        f"{start}/train_classifier.py, {start}/train.py X, `{start}/clean.py`, gan training, a gan"
    )


def test_every_command_has_a_script_and_a_module() -> None:
    for name in COMMANDS:
        file = name.replace("-", "_")
        assert (ROOT / f"scripts/{file}.py").is_file()
        assert (ROOT / f"gan/commands/{file}.py").is_file()


def test_messages_name_commands_through_one_function() -> None:
    for file in (ROOT / "gan").rglob("*.py"):
        assert "python scripts/" not in file.read_text(), file
        assert "pip install -e" not in file.read_text(), file


@pytest.mark.parametrize("name", ["gan", "runpy", "queue", "random"])
def test_module_of_the_users_in_the_working_directory_is_not_taken_for_another_one(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    done = subprocess.run(
        module_command("gan", "--version"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gan-sweeps ")


def test_modules_in_the_working_directory_are_found_where_this_process_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_module.py").write_text("print('found')\n")
    monkeypatch.chdir(tmp_path)
    for places in ([str(tmp_path)], [""]):
        monkeypatch.setattr("sys.path", [*places, *sys.path])
        done = subprocess.run(module_command("own_module"), capture_output=True, text=True)
        assert done.stdout == "found\n", done.stderr
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
