"""Fixtures of all tests: one folder for data sets, equal random numbers, and no process left."""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sweep_commands import Begin, finish, kill, start

# torch logs thousands of records for every graph that it traces, and only pytest would keep them.
logging.getLogger("torch.__trace").propagate = False

# Tests that are started by `nohup` would pass on that a closed terminal is to be ignored.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Tests that run at the same time share the cores, also with the processes that they start. A thread
# too many makes all of them wait.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))


@pytest.fixture(scope="session", autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the default `data.root` of this session and of the processes that it starts."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_DATA", str(root))
        # What tests name on their command lines is not recorded as given by the user.
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield root


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Make what a test draws from torch independent of the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _plain_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a command sets for Hydra when a test calls it in this process."""
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Return a function that starts a command, which is killed if the test ends before it."""
    begun: list[subprocess.Popen[str]] = []

    def begin(command: list[str]) -> subprocess.Popen[str]:
        begun.append(start(command))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            kill(process.pid)
            finish(process)
