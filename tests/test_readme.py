"""Every README: its Python runs, its examples train, and its links lead somewhere."""

import __future__

import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from readmes import NAMES, READMES, ROOT, blocks

from gan.config.compose import compose
from gan.train import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in `outputs`, as a reader has after the first command."""
    folder = tmp_path_factory.mktemp("readme")
    run(compose("trainer=smoke", "data=digits", "threads=1"), folder / "outputs/first")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads wait for each other, which takes long if this machine has other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_python_in_a_readme_runs(
    readme: Path, folder: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for block in blocks(readme.read_text(), "python"):
        names: dict[str, Any] = {}
        # A block that begins with the path of a module is a piece of it.
        place = re.match(r"# (gan/[\w/]+)\.py\n", block)
        if place and (ROOT / f"{place[1]}.py").exists():
            names |= vars(importlib.import_module(place[1].replace("/", ".")))
        flags = __future__.annotations.compiler_flag if names else 0
        exec(compile(block, str(readme), "exec", flags, dont_inherit=True), names)


def test_a_readme_with_python_is_among_them() -> None:
    assert "README.md" in NAMES
    assert blocks((ROOT / "README.md").read_text(), "python")


def test_the_loss_that_the_readme_adds_trains(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (function,) = (block for block in blocks(text, "python") if "def margin" in block)
    (settings,) = (block for block in blocks(text, "yaml") if "my_losses.margin" in block)
    (command,) = (block for block in blocks(text, "bash") if "--config-dir my_conf" in block)
    (tmp_path / "my_conf/loss").mkdir(parents=True)
    (tmp_path / "my_conf/loss/margin.yaml").write_text(settings)
    (tmp_path / "my_losses.py").write_text(function)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{command.strip()} trainer=smoke data=digits hydra.run.dir=run"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "_target_: my_losses.margin" in (tmp_path / "run/config.yaml").read_text()


@pytest.mark.parametrize(
    ("name", "file"),
    {
        "recordings": "walks.npy",
        "photos": "photos.npz",
        "table": "table.csv",
        "scans": "scans.parquet",
    }.items(),
)
def test_a_data_set_that_conf_explains_trains(tmp_path: Path, name: str, file: str) -> None:
    text = (ROOT / "conf/README.md").read_text()
    (code,) = (block for block in blocks(text, "python") if "# my_data.py" in block)
    (settings,) = (block for block in blocks(text, "yaml") if "my_data.recordings" in block)
    (command,) = (block for block in blocks(text, "bash") if "--config-dir my_conf" in block)
    write_samples(tmp_path / file)
    (tmp_path / "my_data.py").write_text(code)
    (tmp_path / "my_conf/data").mkdir(parents=True)
    own = settings.replace("recordings", name)
    (tmp_path / f"my_conf/data/{name}.yaml").write_text(own)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    line = command.strip().replace("data=recordings", f"data={name}").replace("walks.npy", file)
    options = "trainer=smoke trainer.batch_size=20 model.conditional=true metrics=default"
    done = subprocess.run(
        ["bash", "-c", f"{line} {options} hydra.run.dir=run"],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run/samples").glob("step-*.png"))
    saved = torch.load(next((tmp_path / "run/checkpoints").iterdir()), weights_only=True)
    assert saved["classes"] == (1 if name == "recordings" else 3)


def write_samples(path: Path) -> None:
    """Write 200 samples of three classes, in the format that the ending of the path names."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (200, 10, 6), dtype=np.uint8)
    labels = random.integers(3, 6, 200)
    if path.suffix == ".npz":
        np.savez(path, images=pixels, labels=labels)
    elif path.suffix == ".npy":
        np.save(path, random.normal(size=(200, 2, 30)).cumsum(axis=2))
    elif path.suffix == ".csv":
        rows = np.column_stack([random.normal(size=(200, 4)), labels])
        np.savetxt(path, rows, delimiter=",", header="a,b,c,d,class")
    else:
        pytest.importorskip("pyarrow", reason="pandas reads parquet with it")
        buffers = [io.BytesIO() for _ in pixels]
        for image, buffer in zip(pixels, buffers, strict=True):
            Image.fromarray(image).save(buffer, format="PNG")
        table = {"image": [buffer.getvalue() for buffer in buffers]}
        pd.DataFrame(table | {"label": [f"scan {n}" for n in labels]}).to_parquet(path)


def anchors(markdown: Path) -> set[str]:
    """The names that links may give to the headings of a file."""
    headings = re.findall(r"^#+ (.*)", markdown.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_links_and_pictures_in_a_readme_exist(readme: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```", "", readme.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)]+)\)", prose)
    for link in links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = readme.parent / name if name else readme
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_pictures_are_small_and_shown_somewhere() -> None:
    shown = {
        name for readme in READMES for name in re.findall(r"/([\w.]+\.png)\)", readme.read_text())
    }
    for picture in (ROOT / ".readme").iterdir():
        assert picture.name in shown, picture.name
        assert picture.stat().st_size <= 200_000, picture.name
