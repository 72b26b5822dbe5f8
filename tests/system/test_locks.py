"""Locks on file systems with and without flock."""

import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from filelock import SoftFileLock
from runs import short

from gan.data.cache import cached_arrays
from gan.errors import Busy, UserError
from gan.run.directory import LOCK_FILE, claimed, in_use
from gan.run.result import read_result
from gan.sweep.directory import owned
from gan.system import locks
from gan.system.locks import WITHOUT_FLOCK, is_locked, lock_at
from gan.train import run

NAMES = [errno.errorcode[number] for number in dict.fromkeys(WITHOUT_FLOCK)]


@pytest.fixture(params=NAMES)
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let flock fail as it does on some network file systems."""

    def refuse(*_: object) -> None:
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.usefixtures("without_flock")
def test_one_process_works_in_a_run_directory_without_flock(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with claimed(path):
        (path / "config.yaml").touch()
        assert in_use(path)
        with pytest.raises(Busy, match=rf"at work .*; if none is, remove {path}/\.lock\.held$"):
            claimed(path).__enter__()
    assert not in_use(path)
    assert not (path / ".lock.held").exists()
    with claimed(path):
        assert in_use(path)


def test_a_lock_is_looked_at_without_flock_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "ON_WINDOWS", True)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    with lock_at(path):
        assert is_locked(path)
    assert not is_locked(path)


@pytest.mark.usefixtures("without_flock")
def test_one_process_works_in_a_sweep_directory_without_flock(tmp_path: Path) -> None:
    with (
        owned(tmp_path / "sweep"),
        pytest.raises(UserError, match=r"at work .* if none is, remove"),
    ):
        owned(tmp_path / "sweep").__enter__()
    assert not (tmp_path / "sweep").exists()


def test_a_directory_goes_on_after_it_was_moved_to_a_file_system_without_flock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = short("trainer.max_steps=20")
    run(cfg, tmp_path / "run")
    assert (tmp_path / "run" / LOCK_FILE).exists()
    (tmp_path / "run" / "result.json").unlink()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    run(cfg, tmp_path / "run")
    assert (read_result(tmp_path / "run") or {})["status"] == "completed"
    assert not in_use(tmp_path / "run")


@pytest.mark.usefixtures("without_flock")
def test_the_lock_of_a_process_that_died_is_free_without_flock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    code = "import os, sys; from filelock import SoftFileLock as Lock; lock = Lock(sys.argv[1])"
    code += "; lock.acquire(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, f"{path}.held"], check=True)
    path.touch()
    assert (tmp_path / ".lock.held").exists()
    assert not is_locked(path)
    with lock_at(path).acquire(timeout=1):
        assert is_locked(path)


def test_a_lock_is_kept_by_the_system_where_there_is_flock(tmp_path: Path) -> None:
    with lock_at(tmp_path / ".lock") as lock:
        assert not isinstance(lock, SoftFileLock)
        assert is_locked(tmp_path / ".lock")
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.usefixtures("without_flock")
def test_data_are_cached_without_flock(tmp_path: Path) -> None:
    arrays = cached_arrays(tmp_path / "a.npz", "key", lambda: {"a": np.arange(3)})
    assert arrays["a"].tolist() == [0, 1, 2]


def test_who_waits_for_another_process_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    begun, end = threading.Event(), threading.Event()

    def make() -> dict[str, np.ndarray]:
        begun.set()
        assert end.wait(30)
        return {"a": np.arange(3)}

    caplog.set_level(logging.INFO)
    first = threading.Thread(target=cached_arrays, args=(tmp_path / "a.npz", "key", make))
    first.start()
    assert begun.wait(30)
    caplog.handler.setFormatter(logging.Formatter("%(message)s"))
    second = threading.Thread(target=cached_arrays, args=(tmp_path / "a.npz", "key", dict))
    second.start()
    while "waiting for another process" not in caplog.text:
        second.join(0.01)
    end.set()
    for thread in (first, second):
        thread.join(30)
        assert not thread.is_alive()
