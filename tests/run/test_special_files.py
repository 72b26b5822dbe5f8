"""Pipes and devices in place of a run's files: nothing waits for them for ever."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from runs import fail_at, short

from gan.compare.read import read_runs
from gan.errors import UserError
from gan.run.result import read_result
from gan.train import run

FILES = (
    "config.yaml",
    "overrides.yaml",
    "metrics.jsonl",
    "result.json",
    "provenance.json",
    "metrics-fast.json",
    "events.out.tfevents.*",
    "checkpoints/step-00000020.pt",
    "samples/step-000010.png",
)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run that failed in the middle."""
    run_dir = tmp_path_factory.mktemp("special") / "run"
    fail_at(25, short(), run_dir, ["seed=0"])
    (run_dir / "metrics-fast.json").write_text("{}")
    return run_dir


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Fail if the test takes longer than a minute."""

    def fail(*args: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.usefixtures("time_limit")
def test_a_pipe_or_a_device_in_place_of_a_file_is_not_waited_for(
    interrupted: Path, tmp_path: Path, name: str, kind: str
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(interrupted, run_dir)
    (path,) = run_dir.glob(name)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert len(read_runs([run_dir])) == 1
    with suppress(UserError):
        run(short(), run_dir)
        result = read_result(run_dir)
        assert result
        assert result["status"] == "completed"
