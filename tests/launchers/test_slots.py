"""The division of a machine's cores and GPUs into slots."""

from pathlib import Path

import joblib
import pytest

from gan.launchers.slots import Slot, make_slots, threads_per_run


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has eight cores and no GPU."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize(
    ("runs", "n_jobs", "threads"), [(100, None, 1), (2, None, 4), (3, None, 2), (100, 3, 2)]
)
def test_cores_are_divided_among_the_runs(runs: int, n_jobs: int | None, threads: int) -> None:
    assert threads_per_run("auto", runs, n_jobs, 1) == threads
    assert len(make_slots("auto", threads, n_jobs, 1)) * threads <= 8


def test_more_runs_than_cores_get_a_thread_each() -> None:
    assert threads_per_run("cpu", 100, 20, 1) == 1
    assert make_slots("cpu", 1, 20, 1) == [Slot(1)] * 20


def test_gpus_are_dealt_out_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5")
    assert [slot.gpu for slot in make_slots("auto", 2, None, 2)] == ["4", "GPU-5"] * 2
    assert [slot.gpu for slot in make_slots("cuda", 2, 3, 1)] == ["4", "GPU-5", "4"]
    assert [slot.gpu for slot in make_slots("cuda:1", 2, None, 1)] == ["GPU-5"]
    assert {slot.gpu for slot in make_slots("cpu", 2, None, 1)} == {None}
    assert threads_per_run("cuda", 100, None, 1) == 4
    assert Slot(3, "GPU-5").environment()["CUDA_VISIBLE_DEVICES"] == "GPU-5"
    assert Slot(3, "GPU-5").environment()["OMP_NUM_THREADS"] == "3"


def test_gpus_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [slot.gpu for slot in make_slots("auto", 1, None, 1)] == ["0", "1"]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert [slot.gpu for slot in make_slots("auto", 1, 2, 1)] == [None, None]


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [
        ("", []),
        ("-1", []),
        ("0,1", ["0", "1"]),
        (" 2 , 0 ", ["2", "0"]),
        # CUDA does not look beyond a name that is none.
        ("0,-1,1", ["0"]),
        ("0,,1", ["0"]),
        ("GPU-8f1e2d3c", ["GPU-8f1e2d3c"]),
        ("MIG-0a1b2c3d,MIG-4e5f6a7b", ["MIG-0a1b2c3d", "MIG-4e5f6a7b"]),
    ],
)
def test_slots_use_the_gpus_that_the_environment_shows(
    monkeypatch: pytest.MonkeyPatch, visible: str, gpus: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    expected: list[str | None] = [*gpus] or [None] * 4
    assert [slot.gpu for slot in make_slots("auto", 2, None, 1)] == expected
    for index, gpu in enumerate(gpus):
        (slot,) = make_slots(f"cuda:{index}", 2, None, 1)
        assert slot.environment()["CUDA_VISIBLE_DEVICES"] == gpu
