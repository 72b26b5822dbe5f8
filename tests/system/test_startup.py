"""The garbage collector and threads while a program starts, its console, and warnings."""

import errno
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan.system.startup import SHORT_WAITS, core_count, fast_imports, shorten_waits


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


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what says how idle threads wait."""
    for name in WAITING:
        # A variable that is set first is removed again after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_idle_threads_sleep_soon(nothing_chosen: None) -> None:
    shorten_waits()
    assert {name: os.environ.get(name) for name in WAITING} == {
        "OMP_WAIT_POLICY": None,
        "GOMP_SPINCOUNT": "8000",
        "KMP_BLOCKTIME": "0",
    }


@pytest.mark.parametrize("name", WAITING)
def test_a_way_of_waiting_that_the_user_chose_stays(
    nothing_chosen: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    shorten_waits()
    assert {name: os.environ[name] for name in WAITING if name in os.environ} == {name: "1"}


@pytest.mark.parametrize(
    "start",
    [
        "from gan.commands.train import main; main()",
        "from gan.commands import main; main()",
        "from gan.launchers import worker; worker.PipeInbox = Mock(); worker.main()",
        "from gan.launchers.attempt import execute; execute(None)",
        "import gan; gan.run(run_dir='run')",
    ],
    ids=["script", "program", "worker", "attempt", "notebook"],
)
def test_how_threads_wait_is_said_before_torch_is_imported(
    nothing_chosen: None, start: str
) -> None:
    code = f"""
import os, sys
from unittest.mock import Mock

class EndAtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit()

sys.meta_path.insert(0, EndAtTorch())
sys.argv[1:] = ["--version"]
try:
    {start}
finally:
    print({{"torch"}} & sys.modules.keys(), os.environ.items() >= {SHORT_WAITS}.items())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "set() True" in done.stdout.splitlines(), done.stdout


def test_cores_are_counted_by_the_limits_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert core_count() == 1


def printed(code: str, *options: str, to: str = "/dev/null") -> tuple[int, str]:
    """Return the exit code and the errors of a program that prints to a file or a device."""
    begin = (
        "import sys; from gan.system.startup import lost_output, start_program; start_program(); "
    )
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
        "import os; from gan.system.startup import start_program; start_program(); "
        "os.set_blocking(1, False); print('x' * 10**6)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        time.sleep(0.5)
        assert process.stdout
        assert len(process.stdout.read()) == 10**6 + 1
    assert process.returncode == 0


def test_files_do_not_take_the_place_of_a_closed_console(tmp_path: Path) -> None:
    begin = "from gan.system.startup import start_program; start_program(); "
    code = begin + f"file = open({str(tmp_path / 'file')!r}, 'w'); print('a', flush=True)"
    command = ["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, code]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("options", [(), ("-W", "error"), ("-bb",)])
def test_no_warning_ends_a_program(options: tuple[str, ...]) -> None:
    code, errors = printed("import warnings; warnings.warn('old', FutureWarning)", *options)
    assert code == 0
    assert "FutureWarning: old" in errors
