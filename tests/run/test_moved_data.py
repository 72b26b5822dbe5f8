"""Data that lie in another place, or whose path is written in another way, are the same data."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from own_data import configure, save
from PIL import Image
from runs import content, interrupt_at, short
from sweep_commands import compose_sweep

import gan
from gan.commands import compare as compare_command
from gan.compare.frame import load
from gan.errors import UserError
from gan.run.directory import CONFIG_FILE, read_config, read_overrides
from gan.run.result import read_result
from gan.sweep.sweep import Candidates, run_sweep
from gan.train import run


class Killed(BaseException):
    """Ends a run at once, as a killed process does."""


def kill() -> None:
    raise Killed


def write_photos(folder: Path, *, shift: int = 0) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 200, (40, 4, 4), dtype=np.uint8) + shift
    for number, image in enumerate(pixels.astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{number:02}.png")


def on_photos(folder: str | Path, *more: str) -> list[str]:
    settings = ["data=image_folder", f"data.folder={folder}", "data.root=cache", "data.channels=1"]
    return [*settings, "metrics.samples=20", "trainer.max_steps=20", *more]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a folder of images."""
    write_photos(tmp_path / "here" / "photos")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def killed(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a run on that folder, by a relative path, killed after a checkpoint."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 15, kill)
        with pytest.raises(Killed):
            run(short(*on_photos("photos")), tmp_path / "run", overrides=on_photos("photos"))
    return tmp_path / "run"


def is_completed(run_dir: Path) -> bool:
    return bool((read_result(run_dir) or {})["status"] == "completed")


def test_a_run_on_a_relative_folder_goes_on_from_another_directory(
    killed: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_config(killed).data.folder == str(here / "photos")
    assert read_config(killed).data.root == str(here / "cache")
    assert f"data.folder='{here / 'photos'}'" in read_overrides(killed)
    run(short(*on_photos("photos")), tmp_path / "undisturbed")
    monkeypatch.chdir(tmp_path / "there")
    run(read_config(killed), killed)
    assert is_completed(killed)
    assert content(killed) == content(tmp_path / "undisturbed")


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("spelling", ["photos/../photos", "link", "../moved", "other root"])
def test_a_folder_that_was_moved_or_is_written_in_another_way_is_the_same(
    killed: Path, here: Path, tmp_path: Path, spelling: str, finished: bool
) -> None:
    if finished:
        run(read_config(killed), killed)
    (here / "link").symlink_to(here / "photos")
    if spelling == "../moved":
        (here / "photos").rename(tmp_path / "moved")
    root = ["data.root=elsewhere"] if spelling == "other root" else []
    cfg = short(*on_photos("photos" if root else spelling, *root))
    run(cfg, killed)
    assert is_completed(killed)
    # From now on, the run knows its data there.
    if not root:
        assert read_config(killed).data.folder == str(here / spelling)
    run(read_config(killed), killed)


@pytest.mark.parametrize("finished", [False, True])
def test_other_data_in_another_place_are_refused(killed: Path, here: Path, finished: bool) -> None:
    if finished:
        run(read_config(killed), killed)
    write_photos(here / "others", shift=9)
    before = (killed / CONFIG_FILE).read_bytes()
    with pytest.raises(UserError, match="its run was trained on other data"):
        run(short(*on_photos("others")), killed)
    assert (killed / CONFIG_FILE).read_bytes() == before
    run(short(*on_photos("photos")), killed)
    assert is_completed(killed)


@pytest.mark.parametrize("finished", [False, True])
def test_a_run_of_an_earlier_version_goes_on_with_the_path_as_it_was_written(
    killed: Path, here: Path, finished: bool
) -> None:
    if finished:
        run(read_config(killed), killed)
    stored = read_config(killed)
    stored.data.folder, stored.data.root = "photos", "cache"
    OmegaConf.save(stored, killed / CONFIG_FILE)
    run(read_config(killed), killed)
    assert is_completed(killed)
    assert read_config(killed).data.folder == str(here / "photos")
    OmegaConf.save(stored, killed / CONFIG_FILE)
    run(short(*on_photos("photos")), killed)


def test_a_path_of_a_data_set_of_other_people_is_kept_as_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "own.npz", np.random.default_rng(0).normal(size=(40, 3)))
    cfg = configure("npz", path="own.npz", kind="vectors")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 15, kill)
        with pytest.raises(Killed):
            run(cfg, tmp_path / "run")
    assert read_config(tmp_path / "run").data.path == str(tmp_path / "own.npz")
    monkeypatch.chdir(tmp_path / "there")
    run(read_config(tmp_path / "run"), tmp_path / "run")
    assert is_completed(tmp_path / "run")
    (tmp_path / "own.npz").rename(tmp_path / "there" / "moved.npz")
    run(configure("npz", path="moved.npz", kind="vectors"), tmp_path / "run")
    save(tmp_path / "own.npz", np.random.default_rng(1).normal(size=(40, 3)))
    with pytest.raises(UserError, match="trained on other data"):
        run(configure("npz", path="../own.npz", kind="vectors"), tmp_path / "run")


def test_moved_data_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(64, 3)))
    run(configure("endless", path=str(tmp_path / "points.npy")), tmp_path / "run")
    (tmp_path / "points.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(UserError, match=r"another data\.path, and no hash of the data tells"):
        run(configure("endless", path=str(tmp_path / "moved.npy")), tmp_path / "run")


def test_an_address_is_no_path(tmp_path: Path) -> None:
    cfg = configure("npz", path="https://host/own.npz", kind="vectors")
    with pytest.raises(UserError, match=r"https://host/own\.npz"):
        run(cfg, tmp_path / "run")


def test_the_command_that_repeats_a_run_works_in_another_directory(
    here: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = on_photos("photos", "model.hidden_dim=8", "trainer.batch_size=8", "threads=1")
    gan.run(*overrides, run_dir=tmp_path / "run")
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setattr(sys, "argv", ["compare.py", str(tmp_path / "run"), "best"])
    compare_command.main()
    assert f"{here / 'photos'}" in capsys.readouterr().out


def sweep_on(sweep_dir: Path, *overrides: str) -> list[str]:
    """Plan a grid, pretend to train it, and return the names of its runs."""
    texts = ["model.hidden_dim=8", "trainer.batch_size=8", "logging.tensorboard=false", *overrides]
    swept = [text for text in texts if "," in text]
    fixed = [text for text in texts if text not in swept]
    points = [[]]  # type: list[list[str]]
    for text in swept:
        key, _, values = text.partition("=")
        points = [[*point, f"{key}={value}"] for point in points for value in values.split(",")]
    master, loader = compose_sweep(*fixed, f"hydra.sweep.dir={sweep_dir}")
    trained: list[str] = []

    def execute(sweep: Any, names: list[str]) -> None:
        for name in names:
            trained.append(name)
            cfg = OmegaConf.create(sweep.jobs[name].config)
            assert isinstance(cfg, DictConfig)
            run(cfg, sweep.run_dir(name))

    run_sweep(master, loader, Candidates([[*fixed, *point] for point in points]), execute)
    return trained


def test_a_sweep_goes_on_with_moved_data_and_refuses_others(here: Path, tmp_path: Path) -> None:
    lr = "optimizer.lr=1e-3,2e-3"
    assert sweep_on(tmp_path / "sweep", *on_photos("photos"), lr) == ["lr=0.001", "lr=0.002"]
    (here / "photos").rename(tmp_path / "moved")
    more = "optimizer.lr=1e-3,2e-3,3e-3"
    assert sweep_on(tmp_path / "sweep", *on_photos("../moved"), more) == ["lr=0.003"]
    write_photos(here / "photos", shift=9)
    with pytest.raises(UserError, match="trained on other data"):
        sweep_on(tmp_path / "sweep", *on_photos("photos"), "optimizer.lr=1e-3,4e-3")
    frame = load(tmp_path / "sweep")
    assert "folder" not in frame.columns


def test_a_sweep_over_folders_trains_on_each(here: Path, tmp_path: Path) -> None:
    write_photos(here / "others" / "photos", shift=9)
    folders = "data.folder=photos,others/photos"
    assert len(sweep_on(tmp_path / "sweep", *on_photos("photos")[:1], *on_photos("photos")[2:],
                        folders)) == 2  # fmt: skip
    names = sorted(path.parent.name for path in (tmp_path / "sweep").glob("*/result.json"))
    hashes = {(read_result(tmp_path / "sweep" / name) or {})["data_hash"] for name in names}
    assert len(names) == len(hashes) == 2
    assert all(name.startswith("folder=photos") for name in names)


@pytest.mark.skipif(os.name == "nt", reason="users have other names there")
def test_a_home_folder_is_written_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    run(short(*on_photos("'~/photos'")), here / "run")
    assert read_config(here / "run").data.folder == str(here / "photos")
