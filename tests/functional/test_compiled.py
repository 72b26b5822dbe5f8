"""Compiled and captured runs."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import BaseFileLock, Timeout
from runs import short

from gan.errors import UserError
from gan.functional.compiled import _lock_for
from gan.run.checkpoint import checkpoint_paths
from gan.run.result import read_records
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
