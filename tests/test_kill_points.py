"""Runs and sweeps whose process is killed at any of its file operations end as if it was not."""

import subprocess
import sys
from pathlib import Path

import pytest
from sweep_commands import TESTS


def kills(kind: str, folder: Path, every: int) -> int:
    """Return the number of kills at one operation of `every`, all of which were made good."""
    command = [sys.executable, str(TESTS / "kill_points.py"), kind, str(folder), str(every)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return int(done.stdout.splitlines()[-1].split()[0])


def test_a_run_killed_at_some_file_operations_goes_on_with_nothing_wrong(tmp_path: Path) -> None:
    assert kills("run", tmp_path / "walk", every=47) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "longer", "grid", "search"])
def test_a_process_killed_at_any_file_operation_leaves_nothing_wrong(
    kind: str, tmp_path: Path
) -> None:
    assert kills(kind, tmp_path / "walk", every=1) > 100
