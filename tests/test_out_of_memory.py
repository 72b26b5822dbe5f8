"""Memory that runs out: one line says where and what to try, and nothing half made is left."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import content, interrupt_at, short

from gan.commands import command_line
from gan.commands.train import train
from gan.errors import OutOfMemory, is_out_of_memory
from gan.metrics.evaluator import Evaluator
from gan.run.attempt import ending_of
from gan.run.result import Status, read_records, read_result
from gan.train import run

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 8.00 GiB.")
ENOUGH = ("data=digits", "logging.tensorboard=false", "trainer.max_steps=20")


def raise_for_lack_of_memory(*given: Any) -> None:
    """Do what torch does where a GPU has too little memory."""
    raise GPU


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (GPU, True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (OSError("out of memory"), False),
    ],
)
def test_errors_that_mean_too_little_memory_are_known(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_step_without_memory_is_one_line_and_the_run_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = short(*ENOUGH)
    run(cfg, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 13, raise_for_lack_of_memory)
        with pytest.raises(OutOfMemory) as raised:
            run(cfg, tmp_path / "run")
    assert str(raised.value) == (
        f"{tmp_path}/run: memory ran out in step 13, 20.00 GiB more were needed (device=auto, "
        "trainer.batch_size=16, model.hidden_dim=16); try trainer.precision=bf16, a smaller "
        "trainer.batch_size or model.hidden_dim, fewer runs at a time"
    )
    assert (read_result(tmp_path / "run") or {})["error"] == f"OutOfMemory: {raised.value}"
    run(cfg, tmp_path / "run")
    assert content(tmp_path / "run") == content(tmp_path / "undisturbed")


def test_evaluation_without_memory_names_its_samples_and_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = short(*ENOUGH, "trainer.precision=bf16")
    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", raise_for_lack_of_memory)
        with pytest.raises(OutOfMemory) as raised:
            run(cfg, tmp_path / "run")
    assert "memory ran out after step 15, 20.00 GiB more" in str(raised.value)
    assert "metrics.samples=64" in str(raised.value)
    assert "precision" not in str(raised.value)
    assert read_records(tmp_path / "run")[-1]["step"] == 14
    run(cfg, tmp_path / "run")
    assert read_records(tmp_path / "run")[-1]["step"] == 20


def test_sweep_may_try_again_where_memory_ran_out() -> None:
    ending = ending_of(OutOfMemory("run: memory ran out"))
    assert ending == (Status.RAISED, None, "run: memory ran out")


def test_networks_too_large_for_memory_are_one_line_and_leave_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["model.hidden_dim=1000000000000", "data=digits", f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with pytest.raises(SystemExit) as ended:
        command_line.run_with_hydra(train)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/run: memory ran out before its first step, 4000")
    assert not (tmp_path / "run").exists()


def test_command_without_memory_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from gan.commands.generate import Options

    monkeypatch.setattr(sys, "argv", ["generate.py", "run"])
    with pytest.raises(SystemExit) as ended:
        command_line.run_command(raise_for_lack_of_memory, Options)
    assert ended.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("memory ran out (OutOfMemoryError: CUDA out of memory. Tried to")
