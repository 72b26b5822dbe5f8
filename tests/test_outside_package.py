"""Parts of a GAN that an installed package of somebody else brings, with no change here."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sweep_commands import SCRIPTS, TESTS, children, finish, kill, start, statuses, wait_until

PARTS = (
    "loss=soft_hinge",
    "model=attention",
    "schedule=halve_every",
    "optimizer=lion",
    "metrics=brightness",
)
SMALL = (
    "data=digits",
    "trainer.max_steps=40",
    "trainer.batch_size=16",
    "trainer.checkpoint_every=10",
    "metrics.every=20",
    "logging.every=10",
    "logging.samples=4",
    "threads=1",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the package of somebody else is installed."""
    site, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "my_gans"
    # A build leaves files beside the source.
    shutil.copytree(TESTS / "outside_package", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site


@pytest.fixture
def environment(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the processes of a test find the package, as an environment does."""
    monkeypatch.setenv("PYTHONPATH", str(installed))


def execute(*words: str | Path) -> tuple[int, str, str]:
    """Run a script of this project; return its exit code, its output and its errors."""
    script, *others = words
    return finish(start([sys.executable, str(SCRIPTS / script), *map(str, others)]))


@pytest.fixture(scope="module")
def composed(installed: Path) -> Callable[[str], object]:
    """Return a function that composes words where the package is installed.

    It returns the dotted keys, or the text of the error. One process answers all questions.
    """
    code = """
import json, sys
from gan.config.checks import flatten
from gan.config.compose import compose
from gan.errors import UserError
for line in sys.stdin:
    try:
        answer = flatten(compose(*line.split()))
    except UserError as error:
        answer = str(error)
    print(json.dumps([answer, "torch" in sys.modules]), flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(installed)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    stdin, stdout = process.stdin, process.stdout

    def ask(words: str) -> object:
        print(words, file=stdin, flush=True)
        answer, has_torch = json.loads(stdout.readline())
        assert not has_torch, "a configuration is composed without torch"
        return answer

    return ask


def test_keys_of_an_outside_function_have_its_types(composed: Callable[[str], object]) -> None:
    flat = composed(" ".join([*PARTS, "loss.sharpness=2"]))
    assert isinstance(flat, dict)
    assert flat["loss.sharpness"] == 2.0
    assert isinstance(flat["loss.sharpness"], float)
    assert flat["loss._target_"] == "my_gans.losses.soft_hinge"
    assert flat["model.heads"] == 2
    assert flat["optimizer.betas"] == [0.9, 0.99]
    assert flat["metrics.objective"] == "brightness_gap"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("loss=soft_hing", "did you mean 'soft_hinge'"),
        ("loss=soft_hinge loss.sharpnes=3", "loss.sharpnes=3: unknown key"),
        ("loss=soft_hinge loss.sharpnes=3", "did you mean 'loss.sharpness'"),
        ("loss=soft_hinge +loss.width=3", "loss.width: unknown key; loss has"),
        ("loss=soft_hinge loss.sharpness=0", "loss.sharpness=0.0: must be above 0"),
        ("loss=soft_hinge loss.sharpness=big", "loss.sharpness=big: must be a number"),
        ("model=attention model.heads=1.5", "model.heads=1.5: must be a whole number"),
        ("model=attention +model.conditional=true", "takes no parameter 'classes'"),
        ("model=attention trainer.pac=2", "takes no parameter 'pac'"),
        ("optimizer=lion optimizer.lr=-1", "optimizer.lr=-1.0: must be above 0"),
        ("optimizer=lion optimizer.betas=[0.9]", "must hold 2 values"),
        ("metrics=brightness metrics.names=[brightnes_gap]", "did you mean 'brightness_gap'"),
    ],
)
def test_mistakes_in_outside_keys_are_explained_in_one_line(
    composed: Callable[[str], object], words: str, message: str
) -> None:
    text = composed(words)
    assert isinstance(text, str)
    assert message in text
    assert "\n" not in text


@pytest.mark.slow
def test_sweep_of_outside_parts_survives_a_kill_and_its_best_run_is_repeated(
    environment: None, tmp_path: Path
) -> None:
    words = [*PARTS, *SMALL, "loss.sharpness=2,8", "hydra.launcher.n_jobs=1"]
    path = tmp_path / "sweep"
    command = [sys.executable, str(SCRIPTS / "train.py"), "-m", *words, f"hydra.sweep.dir={path}"]
    process = start(command)
    wait_until(lambda: list(path.glob("*/checkpoints/step-*.pt")))
    workers = children(process.pid)
    kill(process.pid)
    finish(process)
    for worker in workers:
        kill(worker)
    code, _, err = execute("resume.py", path)
    assert code == 0, err
    assert set(statuses(path).values()) == {"completed"}

    code, best, err_of_best = execute("compare.py", path, "best")
    assert code == 0, err_of_best
    repeated = tmp_path / "repeated"
    python, script, *overrides = shlex.split(best)
    assert (Path(python).name, Path(script).name) == ("python", "train.py")
    code, _, err = execute("train.py", *overrides, f"hydra.run.dir={repeated}")
    assert code == 0, err
    (tmp_path / "mine/experiment").mkdir(parents=True)
    file = tmp_path / "mine/experiment/found.yaml"
    code, _, err = execute("compare.py", path, "best", f"export={file}")
    assert code == 0, err
    exported = tmp_path / "exported"
    places = ["--config-dir", str(tmp_path / "mine"), "experiment=found", *SMALL[-2:]]
    code, _, err = execute("train.py", *places, f"hydra.run.dir={exported}")
    assert code == 0, err
    first = path / err_name(err_of_best)
    for name in ("metrics.jsonl", "samples/step-000040.png"):
        assert (repeated / name).read_bytes() == (first / name).read_bytes()
        assert (exported / name).read_bytes() == (first / name).read_bytes()


def err_name(text: str) -> str:
    """Return the name of the best run, which stands before the value in the errors."""
    return Path(text.partition(": ")[0]).name


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return a .npz file of strips with labels, and a table of PNG bytes."""
    rng = np.random.default_rng(0)
    strips = (rng.random((200, 6, 20)) > 0.5).astype(np.uint8) * 255
    np.savez(tmp_path / "strips.npz", images=strips, labels=np.arange(200) % 3)
    pictures = []
    for strip in strips:
        buffer = io.BytesIO()
        Image.fromarray(strip).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    pd.DataFrame({"png": pictures}).to_parquet(tmp_path / "table.parquet")
    return {"strips": tmp_path / "strips.npz", "png_table": tmp_path / "table.parquet"}


@pytest.mark.parametrize(
    ("words", "launcher"),
    [
        (["data=strips", "penalty=consistency", "model=small,base"], "local"),
        (["data=png_table", "penalty=lecam", "model=attention,rms"], "vectorized"),
        (["data=heartbeats", "metrics=vectors", "model.hidden_dim=8,16"], "vectorized"),
        (["data=heartbeats", "metrics=vectors", "optimizer=lion", "seed=1,2"], "submitit_local"),
    ],
)
def test_data_and_penalties_of_an_outside_package_train_anywhere(
    environment: None, files: dict[str, Path], tmp_path: Path, words: list[str], launcher: str
) -> None:
    if launcher == "submitit_local":
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    name = words[0].partition("=")[2]
    words = [*words, *([f"data.file={files[name]}"] if name in files else [])]
    words += [word for word in SMALL if not word.startswith("data=")]
    words += ["loss=soft_hinge", "metrics.samples=20", "metrics.every=40"]
    path = tmp_path / "sweep"
    code, out, err = execute(
        "train.py", "-m", *words, f"hydra/launcher={launcher}", f"hydra.sweep.dir={path}"
    )
    assert code == 0, out + err
    assert list(statuses(path).values()) == ["completed", "completed"]
    for run_dir in path.glob("*/"):
        if (run_dir / "result.json").exists():
            assert json.loads((run_dir / "result.json").read_text())["data_hash"]
            assert list((run_dir / "samples").glob("step-*.png"))


def test_config_dir_is_kept_with_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "loss"
    folder.mkdir(parents=True)
    (folder / "smooth.yaml").write_text("_target_: gan.losses.minimax\nlabel_smoothing: 0.3\n")
    run_dir = tmp_path / "run"
    smoke = ["trainer=smoke", "data=digits", "metrics.samples=100", "threads=1"]
    config_dir = ["--config-dir", os.path.relpath(folder.parent)]
    code, _, err = execute(
        "train.py", *config_dir, "loss=smooth", *smoke, f"hydra.run.dir={run_dir}"
    )
    assert code == 0, err

    code, best, err = execute("compare.py", run_dir, "best")
    assert code == 0, err
    words = shlex.split(best)
    assert f"--config-dir={folder.parent}" in words
    code, shown, err = execute("train.py", *words[2:], "--cfg", "job")
    assert "label_smoothing: 0.3" in shown

    (folder / "smooth.yaml").write_text("_target_: gan.losses.minimax\nlabel_smoothing: 0.4\n")
    code, best, err = execute("compare.py", run_dir, "best")
    assert code == 0, err
    assert "loss.label_smoothing=0.3" in best

    (folder / "smooth.yaml").unlink()
    code, best, err = execute("compare.py", run_dir, "best")
    assert code == 0, err
    assert "loss=minimax" in best
    assert "loss.label_smoothing=0.3" in best


def test_run_whose_package_is_gone_is_refused_with_the_reason(
    environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    words = ["loss=soft_hinge", "metrics=brightness", "trainer=smoke", "data=digits", "threads=1"]
    code, _, err = execute("train.py", *words, f"hydra.run.dir={run_dir}")
    assert code == 0, err
    monkeypatch.delenv("PYTHONPATH")
    code, out, err = execute("compare.py", run_dir)
    assert code == 0
    assert "is brightness_gap better high or low?" in err
    assert "soft_hinge" in out or "brightness_gap" in out
    code, out, err = execute("compare.py", run_dir, "best")
    assert (code, out) == (2, "")
    assert "brightness_gap: is it better high or low?" in err
    code, out, err = execute("compare.py", run_dir, "best", "sort=sliced_wasserstein")
    assert (code, out) == (2, "")
    assert "my_gans" in err
    (run_dir / "result.json").unlink()
    code, out, err = execute("resume.py", run_dir)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "my_gans" in err
