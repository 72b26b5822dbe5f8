"""The command lines in scripts/: what they write, print and refuse."""

import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import Field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runs import SCRIPTS, SHORT
from sweep_commands import Begin

from gan.commands.generate import write_samples
from gan.commands.help import TYPES, default_text, named_options
from gan.errors import UserError
from gan.run.directory import read_config
from gan.run.pictures import open_exact
from gan.run.result import read_result

ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}

COMMANDS = sorted(path.stem for path in SCRIPTS.glob("*.py"))


def options_of(name: str) -> dict[str, Field[Any]]:
    """Return the options of a command; train has none besides Hydra's overrides."""
    if name == "train":
        return {}
    package = "benchmarks.command" if name == "benchmark" else f"gan.commands.{name}"
    return named_options(importlib.import_module(package).Options)


def typed(name: str, *arguments: object) -> str:
    """Return the command line that a script prints for another one, wherever Python lies."""
    found = shutil.which("python")
    python = "python" if found and Path(found).parent == Path(sys.executable).parent else None
    return shlex.join([python or sys.executable, f"{SCRIPTS / name}.py", *map(str, arguments)])


def run_script(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    environment = ENVIRONMENT | {"GAN_DATA": os.environ["GAN_DATA"]}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def refused(name: str, *arguments: object, cwd: Path) -> str:
    """Return the one line with which a script refuses its arguments. It must leave no files."""
    before = sorted(cwd.rglob("*"))
    done = run_script(name, *arguments, cwd=cwd)
    assert done.returncode == 2
    assert sorted(cwd.rglob("*")) == before
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    done = run_script("train", *SHORT, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"\nstep +7/40  D loss ", done.stdout)
    (run_dir,) = folder.glob("outputs/*/*")
    return run_dir


@pytest.mark.parametrize("name", COMMANDS)
def test_help_prints_every_option_and_imports_no_torch(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    command = [sys.executable, "-X", "importtime", str(SCRIPTS / f"{name}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    for option, field in options_of(name).items():
        assert f"\n  {option}={default_text(field)} " in done.stdout
        first_words = " ".join(field.metadata["about"].split()[:2])
        assert f" {TYPES[field.type]}: {first_words}" in done.stdout
    # All of standard error is lines such as "import time:  123 |  456 |   gan.errors".
    columns = [line.split("|") for line in done.stderr.splitlines()]
    assert all(first.startswith("import time:") for first, *_ in columns)
    modules = {last.strip() for *_, last in columns}
    assert "gan.commands.command_line" in modules
    assert not modules & {"torch", "numpy", "pandas", "tensorboard", "matplotlib"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_lists_every_option_with_its_type_default_and_meaning(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    text = (SCRIPTS / "README.md").read_text()
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert section
    assert f"python scripts/{name}.py" in section[1]
    # The help has neither links nor quotes.
    plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", section[1])
    rows = re.findall(r"^\| `(\w[\w.]*)` \| (.*?) \| `(.*?)` \| (.*?) \|$", plain, re.MULTILINE)
    assert [(*row[:3], row[3].replace("`", "")) for row in rows] == [
        (option, TYPES[field.type], default_text(field), field.metadata["about"])
        for option, field in options_of(name).items()
    ]


def test_train_makes_one_directory_named_by_time(run_dir: Path) -> None:
    assert time.strptime(run_dir.parent.name, "%Y-%m-%d")
    moment, name, token = run_dir.name.rsplit("-", 2)
    assert time.strptime(moment, "%H-%M-%S")
    assert (name, len(token)) == ("gan", 8)
    result = read_result(run_dir)
    assert result is not None
    assert result["status"] == "completed"
    assert "- model.hidden_dim=16" in (run_dir / "overrides.yaml").read_text()
    assert not (run_dir / ".hydra").exists()


def test_a_multirun_trains_every_combination(tmp_path: Path) -> None:
    done = run_script(
        "train", "-m", *SHORT, "trainer.max_steps=2", "optimizer.lr=1e-4,2e-4", "seed=0,1",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = [path.parent for path in tmp_path.rglob("result.json")]
    assert len(runs) == 4
    assert len({path.name for path in runs}) == 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model.hiden_dim=3"], "unknown key 'model.hiden_dim'; did you mean 'model.hidden_dim'?"),
        (["model=bse"], "did you mean 'base'?"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: must be a number"),
        (["model.hidden_dim=0"], "model.hidden_dim=0: must be at least 1"),
        (["trainer.max_epochs=3"], "both are set"),
        (["trainer.batch_size=5001"], "must be at most 4000, the size of the data set"),
        (["device=cuda:99"], "device=cuda:99: not on this machine, which has "),
        (["optimizer.lr=1,2"], "add --multirun"),
        (["optimizer.lr"], "cannot be read as KEY=VALUE"),
        (["hydra.run.dir=/dev/null/run"], "Not a directory"),
    ],
)
def test_a_wrong_override_is_one_line_and_leaves_no_files(
    tmp_path: Path, arguments: list[str], expected: str
) -> None:
    assert expected in refused("train", *arguments, cwd=tmp_path)


def test_a_wrong_override_stops_a_sweep_before_its_first_run(tmp_path: Path) -> None:
    done = run_script("train", "-m", *SHORT, "optimizer.lr=1e-4,abc", cwd=tmp_path)
    assert done.returncode != 0
    assert "optimizer.lr=abc: must be a number" in done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


def test_resume_refuses_wrong_arguments(run_dir: Path, tmp_path: Path) -> None:
    assert "not a run directory" in refused("resume", tmp_path / "none", cwd=tmp_path)
    for word in ("n_jobs=0", "n_jobs=-1"):
        assert f"{word}: must be at least 1" in refused("resume", run_dir, word, cwd=tmp_path)
    for word in ("device=gpu", "device=cuda:x"):
        assert f"{word}: must match" in refused("resume", run_dir, word, cwd=tmp_path)
    assert "not a run directory" in refused("resume", tmp_path, cwd=tmp_path)
    assert "usage" in refused("resume", cwd=tmp_path)
    assert "did you mean 'device'" in refused("resume", run_dir, "devic=cpu", cwd=tmp_path)


@pytest.mark.parametrize("place", [".", "mine", "mine/run", "mine/a/b"])
def test_refused_run_removes_no_folder_of_the_users(place: str, tmp_path: Path) -> None:
    (tmp_path / "mine" / "run").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    words = [*SHORT, "device=cuda:7", f"hydra.run.dir={tmp_path / place}"]
    assert "device=cuda:7: " in refused("train", *words, cwd=tmp_path / "here")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == ["here", "mine", "mine/run"]


def test_another_configuration_in_a_run_directory_is_refused(run_dir: Path, tmp_path: Path) -> None:
    arguments = [*SHORT, "optimizer.lr=1e-3", f"hydra.run.dir={run_dir}"]
    line = refused("train", *arguments, cwd=tmp_path)
    assert "its run has optimizer.lr=0.0002, not 0.001" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_prints_how_to_continue(
    tmp_path: Path, number: signal.Signals
) -> None:
    run_dir = tmp_path / "run"
    command = [sys.executable, str(SCRIPTS / "train.py"), *SHORT]
    command += ["trainer.max_steps=100000", f"hydra.run.dir={run_dir}"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(run_dir.glob("checkpoints/*.pt")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 128 + number
    (line,) = errors.splitlines()
    assert f"stopped by {number.name} after step " in line
    assert line.endswith(f"continue with: {typed('resume', run_dir)}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A folder for a small file system. The test is skipped if this machine cannot mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "true"], capture_output=True
    )
    if done.returncode:
        pytest.skip("cannot make a mount namespace: " + done.stderr.decode().strip())
    return folder


def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(small_disk: Path) -> None:
    run_dir = small_disk / "run"
    train = f"{sys.executable} {SCRIPTS / 'train.py'} {' '.join(SHORT)} model.hidden_dim=64"
    inside = f"""
        mount -t tmpfs -o size=4m none {small_disk}
        {train} hydra.run.dir={run_dir} > /dev/null; echo "exit $?" >&2
        ls {run_dir}/checkpoints >&2
        mount -o remount,size=64m {small_disk}
        {sys.executable} {SCRIPTS / "resume.py"} {run_dir} | grep completed >&2
    """
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", inside]
    lines = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    assert "No space left on device" in lines[0]
    assert f"make room, then continue with: {typed('resume', run_dir)}" in lines[0]
    assert lines[1] == "exit 2"
    assert lines[2:-1], "no checkpoint is left"
    assert all(re.fullmatch(r"step-\d+\.pt", line) for line in lines[2:-1])
    assert "completed at step 40" in lines[-1]


def test_generate_writes_each_kind_of_file(run_dir: Path, tmp_path: Path) -> None:
    for out in ("grid.png", "array.npz", "walk.gif", "folder"):
        done = run_script("generate", run_dir, "n=5", "seed=1", f"out={out}", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    run_script("generate", run_dir, "n=4", "interpolate=true", "out=strip.png", cwd=tmp_path)
    arrays = np.load(tmp_path / "array.npz")
    assert (arrays["images"].shape, arrays["images"].dtype) == ((5, 28, 28, 1), np.uint8)
    assert arrays["latents"].shape == (5, 100)
    files = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in files] == [f"{index}.png" for index in range(5)]
    for file, expected in zip(files, arrays["images"], strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), expected[..., 0])
    grid = np.asarray(open_exact(tmp_path / "grid.png"))
    assert grid.shape == (2 * 30 + 2, 3 * 30 + 2)
    assert np.array_equal(grid[2:30, 2:30], arrays["images"][0, ..., 0])
    assert open_exact(tmp_path / "strip.png").size == (12 * 30 + 2, 3 * 30 + 2)
    for name in ("grid.png", "strip.png", "walk.gif"):
        assert 700 <= Image.open(tmp_path / name).width <= 900
    walk = Image.open(tmp_path / "walk.gif")
    assert getattr(walk, "n_frames", 1) == 5 * 11


def test_generate_refuses_wrong_arguments(run_dir: Path, tmp_path: Path) -> None:
    assert "not a run directory" in refused("generate", tmp_path, cwd=tmp_path)
    assert "did you mean 'seed'" in refused("generate", run_dir, "sed=1", cwd=tmp_path)
    assert "n=many: must be a whole number" in refused("generate", run_dir, "n=many", cwd=tmp_path)


@pytest.mark.parametrize(
    ("out", "settings", "expected"),
    [
        ("a.png", {"count": 0}, "n=0: must be at least 1"),
        ("a.gif", {"count": 1}, "n=1: must be at least 2"),
        ("a.png", {"count": 3, "interpolate": True, "frames": 1}, "frames=1: must be at least 2"),
        ("a.jpg", {"count": 3}, "must end in .png, .npz or .gif"),
        ("a.npz", {"count": 3, "interpolate": True}, "an interpolation is a .png or a .gif"),
        ("a.png", {"count": 3, "device": "cuda:99"}, "device=cuda:99: not on this machine"),
        (".", {"count": 3}, "is there already"),
    ],
)
def test_generate_refuses_what_it_cannot_write(
    run_dir: Path, tmp_path: Path, out: str, settings: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        write_samples(run_dir, tmp_path / out, seed=0, **settings)
    assert expected in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_compare_prints_csv_where_there_is_no_terminal(run_dir: Path, tmp_path: Path) -> None:
    done = run_script("compare", run_dir, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    header, row = done.stdout.splitlines()
    assert header.startswith("run,status,sliced_wasserstein,grad_norm/discriminator,")
    assert row.startswith(f"{run_dir.name},completed,")
    assert "no runs found" in refused("compare", tmp_path, cwd=tmp_path)
    assert "outputs: does not exist" in refused("compare", cwd=tmp_path)
    assert "did you mean 'format'" in refused("compare", run_dir, "formt=csv", cwd=tmp_path)
    assert "last=0: must be" in refused("compare", run_dir, "last=0", cwd=tmp_path)
    where = "where='1' < lr_"
    assert where in refused("compare", run_dir, where, cwd=tmp_path)


def test_board_serves_runs_to_this_machine(run_dir: Path, tmp_path: Path, begin: Begin) -> None:
    process = begin([sys.executable, str(SCRIPTS / "board.py"), str(run_dir.parent), "port=0"])
    assert process.stderr
    address = ""
    for line in process.stderr:
        if match := re.search(r"http://127\.0\.0\.1:\d+/", line):
            address = match[0]
            break
    assert address, "TensorBoard printed no address"
    with urllib.request.urlopen(f"{address}data/runs", timeout=60) as answer:
        assert isinstance(json.load(answer), list)
    process.terminate()
    assert "does not exist" in refused("board", tmp_path / "none", cwd=tmp_path)
    assert "holds no event files" in refused("board", tmp_path, cwd=tmp_path)
    assert "port=-1: must be" in refused("board", run_dir, "port=-1", cwd=tmp_path)
    assert "last=0: must be at least 1" in refused("board", run_dir, "last=0", cwd=tmp_path)


def test_compare_prints_the_best_command_line_or_a_page_and_clean_keeps_the_best(
    run_dir: Path, tmp_path: Path
) -> None:
    done = run_script("compare", run_dir, "best", cwd=tmp_path)
    # The library was chosen for this machine.
    library = f"matmul={read_config(run_dir).matmul}"
    assert done.stdout == f"{typed('train', *SHORT, library)}\n", done.stderr
    assert done.stderr.startswith(f"{run_dir}: sliced_wasserstein 0.")
    done = run_script("compare", run_dir, "html=page.html", cwd=tmp_path)
    assert done.stdout == "page.html\n", done.stderr
    assert "data:image/webp;base64," in (tmp_path / "page.html").read_text()
    done = run_script("clean", run_dir.parent, cwd=tmp_path)
    use, freed = done.stdout.splitlines()
    assert re.match(r"disk use of .*: [\d.]+ MB \(checkpoints [\d.]+ MB, events [\d.]+ MB, ", use)
    assert freed == "0 of 1 runs, 0.0 MB to remove with yes=true", done.stderr
    assert "of which run?" in refused("compare", run_dir, "export=x.yaml", cwd=tmp_path)
