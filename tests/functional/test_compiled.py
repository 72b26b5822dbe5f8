"""Compiled and captured runs."""

from pathlib import Path

import pytest
from runs import short

from gan.errors import UserError
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
