"""Every README: its Python runs, its commands are right, and its links lead somewhere."""

import __future__

import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from gan.config.compose import compose
from gan.train import run

ROOT = Path(__file__).parent.parent
READMES = sorted(
    path
    for path in ROOT.rglob("README.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NAMES = [str(path.relative_to(ROOT)) for path in READMES]


def blocks(text: str, language: str) -> list[str]:
    """The code of a language in a text; the blocks may be indented."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


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


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_in_a_readme_parse_in_bash(readme: Path) -> None:
    for block in blocks(readme.read_text(), "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{block}"


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_commands_in_a_readme_hold_nothing_that_bash_expands(readme: Path) -> None:
    for block in blocks(readme.read_text(), "bash"):
        # What is quoted, and what follows a hash, is left alone.
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|(?<!\S)#.*", "", block)
        assert not re.search(r"=\S*[][(){}*?$<>!]", bare), block


def commands(readme: Path) -> Iterator[list[str]]:
    """The words of every command that runs a script of this project."""
    for block in blocks(readme.read_text(), "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if "python" in words:
                    yield words[words.index("python") + 1 :]


@pytest.mark.parametrize("readme", READMES, ids=NAMES)
def test_scripts_that_a_readme_names_exist(readme: Path) -> None:
    for script, *_ in commands(readme):
        assert script.startswith("-") or (ROOT / script).is_file(), script
    for script in re.findall(r"`(scripts/\w+\.py)", readme.read_text()):
        assert (ROOT / script).is_file(), script


def ends(overrides: list[str]) -> list[list[str]]:
    """The overrides of the first and of the last point of a sweep; twice the same of one run."""
    points: list[list[str]] = [[], []]
    for override in OverridesParser.create().parse_overrides(overrides):
        text, key = override.input_line, override.get_key_element()
        assert text is not None
        if not override.is_sweep_override():
            values = [text]
        elif override.is_discrete_sweep():
            values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            sweep = override.value()
            values = [f"{key}={sweep.start}", f"{key}={sweep.end - 1e-6}"]  # type: ignore[union-attr,operator]
        points[0].append(values[0])
        points[1].append(values[-1])
    return points


TRAIN = {
    f"{name}: {' '.join(words)}": words
    for name, readme in zip(NAMES, READMES, strict=True)
    for script, *words in commands(readme)
    # The options of other folders are not known here.
    if script == "scripts/train.py" and "--config-dir" not in words
}


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


@pytest.mark.parametrize("words", TRAIN.values(), ids=TRAIN)
def test_training_commands_in_a_readme_compose(words: list[str]) -> None:
    options = ("-m", "--multirun", "--help", "--cfg", "job")
    overrides = [word for word in words if word not in options]
    for point in ends(overrides):
        compose(*point)


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
