"""Compiled and captured runs."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_cuda import Graphs, fake_cuda
from filelock import BaseFileLock, Timeout
from runs import short

from gan.errors import NotSupported, UserError
from gan.functional.compiled import CAPTURE_WARM_UP, _CapturedStep, _lock_for
from gan.functional.tensors import Tensors
from gan.run.checkpoint import checkpoint_paths
from gan.run.result import read_records
from gan.step import Batch, StepResult
from gan.train import run


def test_compiled_run_is_like_an_eager_one_and_can_go_on_eagerly(tmp_path: Path) -> None:
    overrides = ["trainer.max_steps=12", "logging.every=4", "penalty.interval=1", "data=digits"]
    overrides += ["logging.tensorboard=false", "metrics=none", "trainer.checkpoint_every=4"]
    run(short(*overrides), tmp_path / "eager")
    run(short(*overrides, "trainer.compile=true"), tmp_path / "compiled")
    eager, compiled = (read_records(tmp_path / name) for name in ("eager", "compiled"))
    assert [record["step"] for record in compiled] == [4, 8, 12]
    for one, other in zip(eager, compiled, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=1e-4), name
    (tmp_path / "compiled" / "result.json").unlink()
    newest = checkpoint_paths(tmp_path / "compiled")[0]
    assert newest.name == "step-00000012.pt"
    newest.unlink()
    run(short(*overrides), tmp_path / "compiled")
    last = read_records(tmp_path / "compiled")[-1]
    assert last["loss/generator"] == pytest.approx(eager[-1]["loss/generator"], rel=1e-4)


def test_cuda_graphs_need_a_cuda_device(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer\.cuda_graphs=true: needs a CUDA device"):
        run(short("trainer.cuda_graphs=true", "device=cpu"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_process_waits_while_another_one_compiles_the_same_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from gan.functional.compiled import _lock_for\n"
        "with _lock_for('a step'): print('compiling', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == "compiling\n"
        lock = _lock_for("a step")
        assert isinstance(lock, BaseFileLock)
        with pytest.raises(Timeout):
            lock.acquire(timeout=0)
        other.stdin.write("\n")
        other.stdin.flush()
        with lock.acquire(timeout=60):
            assert other.wait() == 0
    assert len(list(tmp_path.iterdir())) <= 2


def capture(step: Callable[[], None], device: str, monkeypatch: pytest.MonkeyPatch) -> Graphs:
    """Call a captured step on tensors of a GPU, without values, until it is replayed twice."""
    graphs = Graphs()
    graphs.plug_in(monkeypatch)

    def wrapped(tensors: Tensors, batch: Batch) -> StepResult:
        graphs.events.append(graphs.current)
        if len(graphs.events) > CAPTURE_WARM_UP:
            step()
        return StepResult(batch.real, (), ())

    captured = _CapturedStep(wrapped)
    with fake_cuda():
        real, labels, decay = (torch.empty(shape, device=device) for shape in ((4, 2), (4,), ()))
        batch = Batch(real, labels, real, (), (), decay, {})
        for _ in range(CAPTURE_WARM_UP + 2):
            captured({}, batch)
    assert graphs.current == "default stream"
    return graphs


def test_step_is_captured_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = capture(lambda: None, "cuda:1", monkeypatch)
    stream = "own stream of cuda:1"
    warm_up = [stream] * CAPTURE_WARM_UP
    # A capture on the stream of another device would be empty, and its replays train nothing.
    captured = [("capture", stream, stream, "thread_local"), stream]
    assert graphs.events == [*warm_up, *captured, "replay", "replay"]


def test_step_that_cannot_be_captured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits() -> None:
        try:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nhint")
        finally:
            # As torch does, which then ends the capture.
            raise RuntimeError("CUDA error: capture failed due to a previous error")

    with pytest.raises(NotSupported) as raised:
        capture(waits, "cuda:0", monkeypatch)
    assert str(raised.value) == (
        "the training step cannot be captured as a CUDA graph (RuntimeError: CUDA error: operation "
        "not permitted when stream is capturing)"
    )


def test_capture_without_memory_is_no_fault_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocates() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        finally:
            raise RuntimeError("CUDA error: capture failed due to a previous error")

    with pytest.raises(torch.OutOfMemoryError):
        capture(allocates, "cuda:0", monkeypatch)
