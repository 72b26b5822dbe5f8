"""The garbage collector while a program starts, its console, and warnings."""

import errno
import gc
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan.startup import fast_imports


@pytest.fixture(autouse=True)
def _restore_collector() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_the_collector_ignores_what_an_import_creates() -> None:
    before = gc.get_freeze_count()
    with fast_imports():
        assert not gc.isenabled()
        created: list[list[int]] = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - before > len(created)
    assert not any(thing is created for thing in gc.get_objects())


def test_a_failed_import_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), fast_imports():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with fast_imports():
        pass
    assert not gc.isenabled()


def printed(code: str, *options: str, to: str = "/dev/null") -> tuple[int, str]:
    """Return the exit code and the errors of a program that prints to a file or a device."""
    begin = "import sys; from gan.startup import lost_output, start_program; start_program(); "
    command = [sys.executable, *options, "-c", begin + code]
    with Path(to).open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr


def test_a_console_that_fails_falls_silent_and_the_reason_is_kept() -> None:
    code = "print('a', flush=True); print('b'); sys.exit(lost_output().errno)"
    assert printed(code, to="/dev/full") == (errno.ENOSPC, "")
    assert printed("print('a'); sys.exit(lost_output())", to="/dev/null") == (0, "")


def test_a_reader_that_is_slow_gets_everything_though_its_pipe_does_not_wait() -> None:
    code = (
        "import os; from gan.startup import start_program; start_program(); "
        "os.set_blocking(1, False); print('x' * 10**6)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        time.sleep(0.5)
        assert process.stdout
        assert len(process.stdout.read()) == 10**6 + 1
    assert process.returncode == 0


def test_files_do_not_take_the_place_of_a_closed_console(tmp_path: Path) -> None:
    begin = "from gan.startup import start_program; start_program(); "
    code = begin + f"file = open({str(tmp_path / 'file')!r}, 'w'); print('a', flush=True)"
    command = ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("options", [(), ("-W", "error"), ("-bb",)])
def test_no_warning_ends_a_program(options: tuple[str, ...]) -> None:
    code, errors = printed("import warnings; warnings.warn('old', FutureWarning)", *options)
    assert code == 0
    assert "FutureWarning: old" in errors
