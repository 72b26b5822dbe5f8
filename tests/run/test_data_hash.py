"""Data that changed under a run: noticed where it is resumed, measured or sampled from."""

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cohorts import ALWAYS_STACKED, Parent, train_cohort
from omegaconf import OmegaConf
from own_data import configure
from runs import SHORT, content, interrupt_at, short
from sweep_commands import Begin, finish, resume_command, sweep_command

from gan.commands import evaluate as evaluate_command
from gan.commands import generate as generate_command
from gan.compare.read import read_run
from gan.compare.repeat import command
from gan.data import content_hash, mnist
from gan.errors import UserError
from gan.run.attempt import Attempt
from gan.run.checkpoint import checkpoint_paths, load_newest_checkpoint
from gan.run.result import Status, read_result
from gan.train import run

ONE_LINE = "its run was trained on other data: .* restore them, or choose another hydra.run.dir"


def write_mnist(root: Path, *, inverted: bool = False, labels_from: int = 0) -> None:
    """Write small files in the format of MNIST: 60 images to train on and 20 to test with."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("t10k", 20)):
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count, dtype=np.uint8) + labels_from) % 10
        images = struct.pack(">4I", 0x803, count, 28, 28)
        images += (255 - pixels if inverted else pixels).tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images)
        numbers = struct.pack(">2I", 0x801, count) + labels.tobytes()
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(numbers)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Killed(BaseException):
    """Ends a run at once, as a killed process does."""


def kill() -> None:
    raise Killed


def on_mnist(root: Path, *overrides: str) -> Any:
    return short("data=mnist", f"data.root={root}", "trainer.max_steps=40", *overrides)


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run on the files in `data`, killed after a checkpoint."""
    write_mnist(tmp_path / "data")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 25, kill)
        with pytest.raises(Killed):
            run(on_mnist(tmp_path / "data"), tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    "change", [{"inverted": True}, {"labels_from": 1}], ids=["images", "labels"]
)
def test_a_run_is_not_resumed_on_other_data(killed: Path, change: dict[str, Any]) -> None:
    root = killed.parent / "data"
    write_mnist(root, **change)
    before = everything(killed)
    with pytest.raises(UserError, match=ONE_LINE) as raised:
        run(on_mnist(root), killed)
    assert "\n" not in str(raised.value)
    assert str(killed) in str(raised.value)
    assert everything(killed) == before
    # With its own data back, the run ends as one that was never disturbed.
    write_mnist(root)
    run(on_mnist(root), killed)
    run(on_mnist(root), killed.parent / "undisturbed")
    assert content(killed) == content(killed.parent / "undisturbed")


def test_the_same_data_in_another_folder_are_the_same_data(killed: Path) -> None:
    (killed.parent / "data").rename(killed.parent / "moved")
    run(on_mnist(killed.parent / "moved"), killed)
    result = read_result(killed)
    assert result is not None
    assert result["status"] == Status.COMPLETED
    hash_now = content_hash(mnist(root=str(killed.parent / "moved")))
    assert result["data_hash"] == hash_now
    assert (load_newest_checkpoint(killed) or {})["data_hash"] == hash_now


def test_a_run_of_an_earlier_version_without_a_hash_goes_on(killed: Path) -> None:
    for path in checkpoint_paths(killed):
        saved = torch.load(path, weights_only=True)
        del saved["data_hash"], saved["scaling"]
        torch.save(saved, path)
    run(on_mnist(killed.parent / "data"), killed)
    assert (load_newest_checkpoint(killed) or {})["step"] == 40


def test_a_cohort_refuses_the_run_whose_data_have_changed(killed: Path) -> None:
    write_mnist(killed.parent / "data", inverted=True)
    before = everything(killed)
    cfg = on_mnist(killed.parent / "data")
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    new = Attempt("new", config | {"seed": 7}, killed.parent / "new", [])
    parent = Parent(Attempt("old", config, killed, []), new)
    train_cohort(parent, ALWAYS_STACKED)
    assert parent.statuses == {"old": Status.REFUSED, "new": Status.COMPLETED}
    assert "trained on other data" in str(parent.endings["old"])
    # A worker writes into the run's log why it was refused.
    log = str(killed / "train.log")
    after = everything(killed)
    assert "trained on other data" in after.pop(log).decode()
    del before[log]
    assert after == before


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["vectorized", pytest.param("local", marks=pytest.mark.slow)])
def test_workers_refuse_runs_of_a_sweep_whose_data_have_changed(
    tmp_path: Path, begin: Begin, launcher: str
) -> None:
    write_mnist(tmp_path / "data")
    overrides = ["data=mnist", f"data.root={tmp_path / 'data'}", f"hydra/launcher={launcher}"]
    command = sweep_command(tmp_path / "sweep", *overrides, "optimizer.lr=1e-3,2e-3")
    code, _, errors = finish(begin(command))
    assert code == 0, errors
    runs = sorted((tmp_path / "sweep").glob("lr=*"))
    assert len(runs) == 2
    # As if both had been killed after their first checkpoint.
    for run_dir in runs:
        (run_dir / "result.json").unlink()
        checkpoint_paths(run_dir)[0].unlink()
    write_mnist(tmp_path / "data", inverted=True)
    before = [(path, path.read_bytes()) for run_dir in runs for path in checkpoint_paths(run_dir)]
    code, out, errors = finish(begin(resume_command(tmp_path / "sweep")))
    assert code == 1
    assert (out + errors).count("trained on other data") >= 2
    assert "Traceback" not in out + errors
    assert [(path, path.read_bytes()) for path, _ in before] == before


def call(monkeypatch: pytest.MonkeyPatch, command: Any, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["command.py", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as end:
        return int(str(end.code))
    return 0


def test_evaluate_refuses_to_compare_with_data_of_which_the_run_knows_nothing(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (killed, "metrics=default", "samples=50")
    assert call(monkeypatch, evaluate_command, *arguments) == 0
    write_mnist(killed.parent / "data", inverted=True)
    before = everything(killed)
    capsys.readouterr()
    assert call(monkeypatch, evaluate_command, *arguments) == 2
    assert "trained on other data" in capsys.readouterr().err
    assert everything(killed) == before


def test_generate_refuses_to_draw_over_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    np.save(tmp_path / "points.npy", points)
    run(configure("pairs", path=str(tmp_path / "points.npy")), tmp_path / "run")
    picture = f"out={tmp_path / 'a.png'}"
    assert call(monkeypatch, generate_command, tmp_path / "run", "n=4", picture) == 0
    (tmp_path / "a.png").unlink()
    np.save(tmp_path / "points.npy", -points)
    assert call(monkeypatch, generate_command, tmp_path / "run", "n=4", picture) == 2
    assert "trained on other data" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
    # An array needs no data beside it.
    array = f"out={tmp_path / 'a.npz'}"
    assert call(monkeypatch, generate_command, tmp_path / "run", "n=4", array) == 0


def test_a_data_set_of_other_people_is_checked_by_its_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.random.default_rng(0).normal(size=(50, 3))
    np.save(tmp_path / "points.npy", points)
    cfg = configure("pairs", path=str(tmp_path / "points.npy"))
    with monkeypatch.context() as patch:
        interrupt_at(patch, 15, kill)
        with pytest.raises(Killed):
            run(cfg, tmp_path / "run")
    np.save(tmp_path / "points.npy", -points)
    with pytest.raises(UserError, match=ONE_LINE):
        run(cfg, tmp_path / "run")
    np.save(tmp_path / "points.npy", points)
    run(cfg, tmp_path / "run")
    assert (read_result(tmp_path / "run") or {})["status"] == Status.COMPLETED


def test_a_run_says_that_its_data_cannot_be_checked(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(64, 3)))
    run(configure("endless", path=str(tmp_path / "points.npy")), tmp_path / "run")
    assert (read_result(tmp_path / "run") or {})["data_hash"] is None
    assert "so a change of them is not noticed" in (tmp_path / "run/train.log").read_text()


def test_runs_on_different_data_have_different_hashes_in_their_results(tmp_path: Path) -> None:
    hashes = []
    for inverted in (False, True):
        write_mnist(tmp_path / "data", inverted=inverted)
        run(on_mnist(tmp_path / "data"), tmp_path / str(inverted))
        stored = json.loads((tmp_path / str(inverted) / "result.json").read_text())
        hashes.append(stored["data_hash"])
    shutil.rmtree(tmp_path / "data")
    assert len(set(hashes)) == 2


def test_the_best_run_is_not_repeated_on_other_data(tmp_path: Path) -> None:
    root, run_dir = tmp_path / "root", tmp_path / "run"
    write_mnist(root)
    words = ["data=mnist", f"data.root={root}", "trainer.max_steps=5"]
    run(short(*words), run_dir, overrides=[*SHORT, *words])
    stored = read_run(run_dir)
    assert not [remark for remark in command(stored)[1] if "data" in remark]
    write_mnist(root, inverted=True)
    with pytest.raises(UserError, match="cannot be repeated, its data were others"):
        command(stored)
    shutil.rmtree(root)
    root.write_text("no folder")
    assert "its data cannot be compared with those that are here" in command(stored)[1][-1]
