"""The program `gan`: its commands, its help, and the words that the Tab key completes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gan import __version__
from gan.commands.command_line import as_user_error
from gan.system.invocation import COMMANDS


def gan(*arguments: str, cwd: Path, line: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program.

    Args:
        line: the command line so far, where the shell asks how it may go on.
    """
    environment = os.environ | ({} if line is None else {"COMP_LINE": line})
    command = [sys.executable, "-m", "gan", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_it_lists_the_commands(arguments: list[str], tmp_path: Path) -> None:
    done = gan(*arguments, cwd=tmp_path)
    assert done.returncode == 0
    for name, about in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert about in done.stdout


def test_a_wrong_command_gets_the_nearest_name_and_exit_code_2(tmp_path: Path) -> None:
    done = gan("trian", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "gan trian: no such command; did you mean 'train'?\n"
    assert "there are train, resume, " in gan("xyz", cwd=tmp_path).stderr
    assert "did you mean 'train-classifier'?" in gan("train_classifier", cwd=tmp_path).stderr


def test_it_prints_its_version(tmp_path: Path) -> None:
    assert gan("--version", cwd=tmp_path).stdout == f"gan-sweeps {__version__}\n"


def test_its_help_loads_no_other_library(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "gan", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "gan.commands" in modules
    assert not modules & {"torch", "numpy", "hydra", "omegaconf", "yaml", "gan.api"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gan ", set(COMMANDS)),
        ("gan tr", {"train"}),
        ("gan train mod", {"model=", "model."}),
        ("gan train model=", {"model=base", "model=dcgan"}),
        ("gan train -m trainer.max_", {"trainer.max_steps=", "trainer.max_epochs="}),
        ("gan train --config-dir mine loss=", {"loss=soft", "loss=hinge"}),
        ("gan generate RUN ", {"n=", "seed=", "out="}),
        ("gan train-classifier ", {"epochs="}),
    ],
)
def test_the_tab_key_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    (tmp_path / "mine/loss").mkdir(parents=True)
    (tmp_path / "mine/loss/soft.yaml").write_text("defaults: [hinge]\n")
    done = gan("-sc", "query=bash", cwd=tmp_path, line=line)
    assert expected <= set(done.stdout.split()), done.stderr


def test_bash_completes_a_command_line(tmp_path: Path) -> None:
    script = """
        eval "$(gan train -sc install=bash)"
        complete -p gan
        COMP_LINE="gan train model=dcg"; COMP_CWORD=2; COMP_POINT=${#COMP_LINE}
        hydra_bash_completion
        echo "${COMPREPLY[@]}"
    """
    folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    if not (folder / "gan").exists():
        pytest.skip("the program gan is not installed in this environment")
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    registered, words = done.stdout.splitlines()
    assert "-F hydra_bash_completion gan" in registered
    assert words == "model=dcgan model=dcgan_small"


def test_a_refusal_of_the_system_names_a_file_only_where_there_is_one() -> None:
    assert str(as_user_error(OSError("no answer"))) == "OSError: no answer"
    missing = FileNotFoundError(2, "No such file or directory", "a.png")
    assert str(as_user_error(missing)) == "a.png: No such file or directory"
