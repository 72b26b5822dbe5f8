"""Paths and NAME=VALUE options of a command: their types, and mistakes that are refused."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gan import __version__
from gan.commands.command_line import run_command
from gan.commands.help import option


@dataclass
class Options:
    """Options of the command that the tests call."""

    n: int = option(64, "number of things")
    last: int | None = option(None, "number of the newest")
    flag: bool = option(False, "do it")
    name: str | None = option(None, "a name")
    out: Path = option(Path("out.png"), "file to write")


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[list[Path], Options]:
    """Return what the command gets."""
    got: list[tuple[list[Path], Options]] = []
    monkeypatch.setattr(sys, "argv", ["command.py", *arguments])
    run_command(lambda paths, options: got.append((paths, options)), Options)
    return got[0] if got else ([], Options())


def test_values_have_the_types_of_the_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ("~/run/lr=1", "n=3", "last=null", "flag=true", "name=7", "out=~/a.png")
    paths, options = called(monkeypatch, *arguments)
    assert paths == [tmp_path / "run/lr=1"]
    assert options == Options(3, None, True, "7", tmp_path / "a.png")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("out=", "out=: needs a value; leave the option out for its default"),
        ("name=", "name=: needs a value"),
        ("n=", "n=: needs a value"),
        ("n=many", "n=many: must be a whole number"),
        ("n=null", "n=null: must not be null"),
        ("flag=maybe", "flag=maybe: must be true or false"),
        ("nn=3", "nn=3: unknown option 'nn'; allowed: n, last, flag, name, out; did you mean 'n'?"),
        ("", "'': an empty argument; a path was expected"),
        ("--out", "--out: no such flag; there are --help and --version"),
    ],
)
def test_a_mistake_is_one_line_and_names_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argument: str,
    expected: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        called(monkeypatch, "run", "last=3", argument)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(expected)


def test_help_and_version_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called(monkeypatch, "run", "--version")
    assert capsys.readouterr().out == f"gan-sweeps {__version__}\n"
    called(monkeypatch, "--help")
    assert "\n  n=64         whole number: number of things\n" in capsys.readouterr().out
