"""What all tests share: one folder for data sets, and nothing left behind."""

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sweep_cases import Begin, finish, kill, start

# Thousands of records of every graph that is traced, for no reader but pytest.
logging.getLogger("torch.__trace").propagate = False


@pytest.fixture(scope="session", autouse=True)
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default `data.root` of this session and of the processes it starts."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAN_DATA", str(root))
        yield root


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What a test draws from torch does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a command that is killed if the test ends before it."""
    begun: list[subprocess.Popen[str]] = []

    def begin(command: list[str]) -> subprocess.Popen[str]:
        begun.append(start(command))
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            kill(process.pid)
            finish(process)
