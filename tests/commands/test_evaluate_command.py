"""scripts/evaluate.py: metrics of runs from their checkpoints."""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from runs import SCRIPTS, short

from gan.commands import evaluate as command
from gan.commands.evaluate import (
    FLOOR,
    Options,
    measure_runs,
    measuring_config,
    runs_to_measure,
)
from gan.compare.frame import read_table
from gan.config.paths import with_data_at
from gan.data import ImageData, mnist5k
from gan.data.samples import load_samples
from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths
from gan.run.directory import read_config
from gan.run.evaluation import draw_latents, generate, make_evaluator
from gan.run.result import read_records, read_result
from gan.run.trained import load_generator
from gan.train import run

METRICS = ("metrics=fast", "metrics.samples=150", "metrics.every=20")
AVERAGED = ("trainer.ema_half_life=100", "logging=quiet", "logging.samples_every=100")

Evaluate = Callable[..., None]
"""A function that runs scripts/evaluate.py with some arguments, in this process."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Use as many threads as the runs: rounding depends on it."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two finished runs. Tests must not write to it."""
    sweep = tmp_path_factory.mktemp("sweeps") / "lr=1e-3"
    for seed in (0, 1):
        cfg = short(*METRICS, *AVERAGED, "optimizer.lr=1e-3", f"seed={seed}")
        run(cfg, sweep / f"optimizer.lr=0.001,seed={seed}")
    return sweep


@pytest.fixture
def sweep(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    def call(*arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        command.main()

    return call


def metric_settings(metrics: str, samples: int | None, split: str | None) -> DictConfig:
    settings: DictConfig = measuring_config(Options(metrics, samples=samples, split=split)).metrics
    return settings


def read_metrics(run_dir: Path, name: str = "fast") -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run_dir / f"metrics-{name}.json").read_text())
    return metrics


def test_evaluation_gives_the_same_values_as_training(sweep: Path, evaluate: Evaluate) -> None:
    evaluate(sweep, "samples=150")
    for run_dir in sweep.iterdir():
        result, found = read_result(run_dir), read_metrics(run_dir)
        assert result
        last = read_records(run_dir)[-1]
        assert last["step"] == found["step"] == 40
        assert set(found["values"]) == {
            *("lenet_fid", "lenet_kid", "lenet_kid/se"),
            *("precision", "recall", "density", "coverage"),
        }
        assert found["values"] == {name: last[name] for name in found["values"]}
        assert result["measured"] == {name: found[name] for name in result["measured"]}
        assert found["versions"] == result["versions"]


def test_the_floor_has_the_metrics_of_real_training_images(
    sweep: Path,
    evaluate: Evaluate,
    capsys: pytest.CaptureFixture[str],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A short path fits on one line of the table.
    monkeypatch.chdir(sweep.parent)
    evaluate(sweep.name, "samples=150")
    first, second, floor = capsys.readouterr().out.splitlines()[-3:]
    for number, line in enumerate((first, second)):
        name, step, weights, *_ = line.split()
        assert name == f"lr=1e-3/optimizer.lr=0.001,seed={number}"
        assert (step, weights) == ("40", "average")
    assert floor.startswith(FLOOR)
    settings, data = metric_settings("fast", 150, None), mnist5k(root=str(data_root))
    expected = make_evaluator(settings, data)(data.real("train", 150)[0])
    assert floor.split()[3:] == [f"{value:.4g}" for value in expected.values()]
    for run_dir in sweep.iterdir():
        assert read_metrics(run_dir)["floor"] == expected
        assert expected["lenet_fid"] < read_metrics(run_dir)["values"]["lenet_fid"]


def test_one_run_is_measured_with_other_metrics_samples_and_split(
    sweep: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, other = sorted(sweep.iterdir())
    evaluate(run_dir, "metrics=full", "name=all", "samples=150", "split=train")
    assert FLOOR not in capsys.readouterr().out, "training images are what it is compared with"
    found = read_metrics(run_dir, "all")
    assert set(found["values"]) == {*metric_settings("full", None, None).names, "lenet_kid/se"}
    assert (found["samples"], found["real"], found["split"]) == (150, 150, "train")
    assert found["floor"] is None
    assert not list(other.glob("metrics-*.json"))
    assert {path.name for path in run_dir.glob("metrics*")} == {
        "metrics.jsonl",
        "metrics-all.json",
    }


def test_weights_can_be_chosen(sweep: Path, evaluate: Evaluate, data_root: Path) -> None:
    run_dir = min(sweep.iterdir())
    settings = metric_settings("default", 80, "test")
    found = {}
    for weights in ("auto", "average", "generator"):
        evaluate(run_dir, "metrics=default", "split=test", "samples=80", f"weights={weights}")
        found[weights] = read_metrics(run_dir, "default")
        network = load_generator(run_dir, weights).network
        images = generate(network, draw_latents(80, 100, seed=0, purpose="evaluation"))
        expected = make_evaluator(settings, mnist5k(root=str(data_root)))(images)
        assert found[weights]["values"] == expected
    assert found["auto"] == found["average"]
    assert [found[name]["weights"] for name in found] == ["average", "average", "generator"]
    assert found["generator"]["values"] != found["average"]["values"]


def test_truncated_latents_are_measured_and_the_file_says_so(
    sweep: Path, evaluate: Evaluate, data_root: Path
) -> None:
    run_dir = min(sweep.iterdir())
    evaluate(run_dir, "metrics=default", "split=test", "samples=80", "truncation=0.5")
    z = draw_latents(80, 100, seed=0, purpose="evaluation", truncation=0.5)
    images = generate(load_generator(run_dir).network, z)
    measure = make_evaluator(metric_settings("default", 80, "test"), mnist5k(root=str(data_root)))
    found = read_metrics(run_dir, "default")
    assert found["values"] == measure(images)
    assert (found["truncation"], found["standing"]) == (0.5, 0)


def test_an_unfinished_run_is_measured_at_its_newest_checkpoint(
    sweep: Path, evaluate: Evaluate
) -> None:
    run_dir = min(sweep.iterdir())
    checkpoint_paths(run_dir)[0].unlink()
    (run_dir / "result.json").unlink()
    evaluate(run_dir, "metrics=default", "samples=80")
    assert read_metrics(run_dir, "default")["step"] == 30


def test_runs_of_a_sweep_without_a_checkpoint_are_left_out_with_a_warning(
    sweep: Path, evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    begun, other = sorted(sweep.iterdir())
    shutil.rmtree(begun / "checkpoints")
    with caplog.at_level(logging.WARNING):
        evaluate(sweep, "metrics=default", "samples=80")
    assert caplog.messages == [f"{sweep}: 1 of its 2 runs have no checkpoint"]
    assert read_metrics(other, "default")["step"] == 40
    assert not (begun / "metrics-default.json").exists()
    shutil.rmtree(other / "checkpoints")
    with pytest.raises(UserError, match="none of its 2 runs has a checkpoint yet"):
        runs_to_measure([sweep])


def test_runs_are_found_at_a_path_and_at_any_depth_below_it(sweep: Path) -> None:
    runs = sorted(sweep.iterdir())
    assert runs_to_measure([runs[0]]) == [runs[0]]
    assert runs_to_measure([sweep]) == runs
    assert runs_to_measure([sweep.parent]) == runs
    assert runs_to_measure([runs[1], sweep]) == [runs[1], runs[0]]
    assert runs_to_measure([]) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "evaluate RUN_DIR"),
        (["{sweep}/none"], "none: does not exist"),
        (["{run}/config.yaml"], "config.yaml: not a directory"),
        (["{run}/checkpoints"], "no runs found in "),
        (["{sweep}/seed=7"], "seed=7: does not exist"),
        (["seed=7"], "seed=7: unknown option 'seed'; allowed: metrics, protocol, feat"),
        (["{run}", "metric=fast"], "unknown option 'metric'; allowed: metrics, protocol, "),
        (["{run}", "metrics=fats"], "metrics=fats: no such option; allowed: colour, default"),
        (["{run}", "metrics=none"], "metrics=none: measures nothing"),
        (["{run}", "metrics=points"], "high_quality is for a mixture of points"),
        (["{run}", "samples=many"], "must be a whole number"),
        (["{run}", "samples=0"], "metrics.samples=0: must be at least "),
        (["{run}", "samples=100"], "metrics.samples=100: lenet_fid needs 129 samples"),
        (["{run}", "split=tets"], "split=tets: must be one of train, test; did you mean 'test'?"),
        (["{run}", "weights=averge"], "weights=averge: must be one of auto, average, generator"),
        (["{run}", "truncation=0"], "truncation=0.0: must be above 0"),
        (["{run}", "standing=4"], "standing=4: must be 0, as the generator has no batch norm"),
        (["{run}", "standing=-1"], "standing=-1: must be at least 0"),
        (["{run}", "device=cuda:99"], "device=cuda:99: not on this machine"),
        (["{run}", "metrics=default", "samples=9", "name=a/b"], "name=a/b: must be letters"),
        (["{run}", "metrics=default", "name=best"], "name=best: must be letters, digits and . "),
        (["{run}", "metrics=default", "data=mnist5k"], "data=mnist5k: has no effect here"),
        (["{begun}"], "has no checkpoint yet"),
        (["{run}", "{begun}", "metrics=default"], "has no checkpoint yet"),
    ],
)
def test_an_error_is_one_line_and_writes_nothing(
    sweep: Path,
    evaluate: Evaluate,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    run_dir, begun = sorted(sweep.iterdir())
    shutil.rmtree(begun / "checkpoints")
    before = sorted(sweep.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        evaluate(*(text.format(sweep=sweep, run=run_dir, begun=begun) for text in arguments))
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert sorted(sweep.rglob("*")) == before


def test_an_error_names_the_run_whose_weights_are_not_finite(
    sweep: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = min(sweep.iterdir())
    path = checkpoint_paths(run_dir)[0]
    saved = torch.load(path, weights_only=True)
    next(iter(saved["average"].values())).fill_(torch.nan)
    torch.save(saved, path)
    with pytest.raises(SystemExit) as stopped:
        evaluate(run_dir, "metrics=default", "samples=9")
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{run_dir}: at step 40 the generator's samples are not finite"
    assert not list(run_dir.glob("metrics-*.json"))


def test_runs_of_two_data_sets_have_a_floor_each(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("digits", "again", "ring")]
    few = ["trainer.max_steps=2", "metrics=none", "logging=quiet"]
    for run_dir, data in zip(runs, ("digits", "digits", "ring8"), strict=True):
        run(short(*few, f"data={data}"), run_dir)
    settings = metric_settings("default", 60, "test")
    rows = list(measure_runs(runs, settings, name="x", weights="auto", device="cpu"))
    assert [row.name for row in rows] == [
        *(str(runs[0]), FLOOR, str(runs[1])),
        *(str(runs[2]), FLOOR),
    ]
    assert (
        read_metrics(runs[0], "x")["floor"] == read_metrics(runs[1], "x")["floor"] == rows[1].values
    )
    assert rows[4].values != rows[1].values


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("runs", [1, 3])
def test_tables_fit_into_the_terminal_and_keep_every_metric(width: int, runs: int) -> None:
    metrics = metric_settings("full", None, None).names
    values = dict.fromkeys([*metrics, "lenet_kid/se"], 0.123456)
    name = "outputs/2026-01-31/12-00-00-sweep-gan-0123abcd/hidden_dim=256,lr=0.0002,seed="
    rows = [command.Measurement(f"{name}{n}", 15000, "average", values) for n in range(runs)]
    console = Console(file=io.StringIO(), width=width)
    command._print_table([*rows, command.Measurement(FLOOR, None, "", values)], console)
    assert isinstance(console.file, io.StringIO)
    title, *lines = console.file.getvalue().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    words = " ".join([title, *lines]).split()
    assert all(words.count(name) == 1 for name in values)
    assert words.count("0.1235") == len(values) * (runs + 1)


def test_the_command_line_prints_a_row_for_each_run_and_the_floor(sweep: Path) -> None:
    run_dir, other = sorted(path.name for path in sweep.iterdir())
    command = [sys.executable, str(SCRIPTS / "evaluate.py"), run_dir, other]
    command += ["metrics=default", "split=test", "samples=150", "device=cpu"]
    done = subprocess.run(command, cwd=sweep, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["run", "step", "weights", "sliced_wasserstein"]
    assert [row.split()[0] for row in rows] == [run_dir, other, FLOOR.split()[0]]
    assert read_metrics(sweep / other, "default")["samples"] == 150


def test_metrics_are_named_one_by_one_too() -> None:
    settings = metric_settings("precision,sliced_wasserstein", 60, None)
    assert list(settings.names) == ["precision", "sliced_wasserstein"]
    with pytest.raises(UserError, match="metrics=precison"):
        metric_settings("precison", 60, None)


def test_progress_names_the_samples_and_each_metric_of_each_run(sweep: Path) -> None:
    settings = metric_settings("precision,sliced_wasserstein", 60, None)
    parts: list[str] = []
    run_dirs = runs_to_measure([sweep])
    list(
        measure_runs(
            run_dirs, settings, name="x", weights="auto", device="cpu", on_part=parts.append
        )
    )
    assert parts == ["samples", "precision", "sliced_wasserstein"] * 2


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_shows_the_part_that_is_measured_on_a_terminal_only(
    sweep: Path,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_terminal: bool,
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if is_terminal else "NO_COLOR", "1")
    evaluate(sweep, "metrics=sliced_wasserstein", "samples=60")
    assert ("measuring: sliced_wasserstein" in capsys.readouterr().out) == is_terminal


MINE = """# @package _global_
# {about}.
defaults:
  - override /features: {features}

metrics:
  names: [kid, recall]
  samples: 60
  real: {real}
  split: test
  objective: kid
"""

EXTRACTOR = """
import torch

def rows(*, power: float):
    return lambda images: images.double().mean((1, 3)) ** power
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of options of somebody else's: an extractor, and protocols."""
    folder = tmp_path / "own"
    for group in ("features", "protocol"):
        (folder / group).mkdir(parents=True)
    yaml = "# Mine.\n_target_: row_features.rows\npower: 1.0\n"
    (folder / "features" / "rows.yaml").write_text(yaml)
    for name, features, real in (("mine", "rows", "90"), ("other", "lenet", "all")):
        text = MINE.format(about=name, features=features, real=real)
        (folder / "protocol" / f"{name}.yaml").write_text(text)
    (tmp_path / "row_features.py").write_text(EXTRACTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def write_samples(folder: Path, data: ImageData, count: int) -> tuple[Path, Path]:
    """Write training images as an .npz file and as a folder of PNG files."""
    images, _ = data.real("train", count)
    array, pictures = folder / "theirs.npz", folder / "pictures"
    np.savez(array, images=images.permute(0, 2, 3, 1).numpy())
    pictures.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(pictures / f"{number:04}.png")
    return array, pictures


def test_samples_from_elsewhere_are_measured_like_those_of_a_run(
    tmp_path: Path,
    evaluate: Evaluate,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A short path fits on one line of the table.
    monkeypatch.chdir(tmp_path)
    data = mnist5k(root=str(data_root))
    array, pictures = write_samples(Path(), data, 150)
    evaluate(array, pictures, "data=mnist5k", "samples=150")
    # KID depends on the order a little.
    measure = make_evaluator(metric_settings("fast", 150, None), data)
    expected = measure(load_samples(array, data, 150))
    for path in (pictures / "metrics-fast.json", tmp_path / "theirs-metrics-fast.json"):
        facts = json.loads(path.read_text())
        assert facts["values"] == expected
        assert (facts["samples"], facts["real"], facts["split"]) == (150, 150, "test")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["run", *(str(path) for path in (array, pictures)), "real"]


def test_samples_are_compared_with_the_data_of_the_runs_beside_them(
    sweep: Path, tmp_path: Path, evaluate: Evaluate, data_root: Path
) -> None:
    array, _ = write_samples(tmp_path, mnist5k(root=str(data_root)), 80)
    evaluate(sweep, array, "metrics=default", "samples=60")
    theirs = json.loads((tmp_path / "theirs-metrics-default.json").read_text())
    ours = read_metrics(min(sweep.iterdir()), "default")
    assert theirs["real_hash"] == ours["real_hash"]
    assert theirs["values"]["sliced_wasserstein"] < ours["values"]["sliced_wasserstein"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{array}"], "theirs.npz: name the data to compare it with, such as data=mnist"),
        (["{array}", "data=mnist5k"], "holds 20 samples, and 10000 are to be measured; give samp"),
        (["{pictures}", "data=mnist5k", "samples=200"], "pictures: holds 20 samples, and 200"),
        (["{pictures}", "data=ring8", "metrics=points", "samples=9"], "holds images, and the data"),
        (
            ["{array}", "data=ring8", "metrics=points", "samples=9"],
            "images is uint8 (20, 28, 28, 1",
        ),
        (
            ["{floats}", "data=mnist5k", "samples=9", "metrics=default"],
            "is float64; images are uin",
        ),
        (
            ["{small}", "data=mnist5k", "samples=9", "metrics=default"],
            "holds (20, 1, 9, 9), and the",
        ),
        (["{broken}", "data=mnist5k", "metrics=default"], "broken.npz: cannot be read as arrays"),
        (["{array}", "data=mnist5k", "data.rot=x"], "data.rot=x: unknown key 'data.rot'; did you"),
        (["{array}", "data=mnist5k", "protocol=lucci"], "protocol=lucci: no such option; allowed:"),
        (["{array}", "data=mnist5k", "features=lent"], "features=lent: no such option; allowed: a"),
        (
            ["{array}", "data=mnist5k", "metrics=lenet_fid,precison"],
            "there is no metric 'precison'; ",
        ),
        (["{array}", "data=mnist5k", "--config-dir", "{pictures}"], "as --config-dir=FOLDER"),
        (
            ["{array}", "data=mnist5k", "weights=average"],
            "weights=average: is about runs, and ther",
        ),
        (["{empty}", "data=mnist5k", "metrics=default"], "empty.npz: cannot be read as arrays"),
        (["{renamed}", "data=mnist5k", "metrics=default"], "renamed.npz: cannot be read as arrays"),
        (["{array}", "data=mnist5k", "--config-dir=nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(
    tmp_path: Path,
    evaluate: Evaluate,
    data_root: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    array, pictures = write_samples(tmp_path, mnist5k(root=str(data_root)), 20)
    names = ("floats", "small", "broken", "empty", "renamed")
    paths = {name: tmp_path / f"{name}.npz" for name in names}
    paths["empty"].touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(paths["renamed"])
    np.savez(paths["floats"], np.zeros((20, 28, 28)))
    np.savez(paths["small"], np.zeros((20, 9, 9), np.uint8))
    paths["broken"].write_bytes(b"PK")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        evaluate(*(text.format(array=array, pictures=pictures, **paths) for text in arguments))
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
    assert sorted(tmp_path.rglob("*")) == before


def test_samples_that_are_sorted_by_class_are_taken_in_another_order(
    tmp_path: Path, data_root: Path
) -> None:
    """Metrics may take the first samples, or parts of them."""
    data = mnist5k(root=str(data_root))
    images = np.zeros((100, 28, 28), np.uint8)
    images[:, 0, 0] = range(100)
    np.savez(tmp_path / "sorted.npz", images)
    for count in (100, 50):
        found = load_samples(tmp_path / "sorted.npz", data, count)[:, 0, 0, 0].tolist()
        assert len(set(found)) == count
        assert 30 < sum(found[: count // 2]) / (count // 2) < 70


def test_metrics_that_are_named_are_measured_like_those_of_the_default_option() -> None:
    named, fast = (metric_settings(metrics, None, None) for metrics in ("lenet_fid", "fast"))
    assert (named.samples, named.split, named.real) == (fast.samples, fast.split, fast.real)
    assert named.names == ["lenet_fid"]


def test_the_best_checkpoint_is_measured_with_other_latents_than_training(
    sweep: Path, evaluate: Evaluate
) -> None:
    run_dir = min(sweep.iterdir())
    newest = checkpoint_paths(run_dir)[0]
    shutil.copy(newest, newest.with_name(newest.name.replace("step", "best")))
    for name, words in {
        "newest": [],
        "best": ["checkpoint=best"],
        "again": ["checkpoint=best"],
        "zero": ["latent_seed=0"],
        "one": ["latent_seed=1"],
    }.items():
        evaluate(run_dir, "metrics=lenet_kid", "samples=60", f"name=x{name}", *words)
    values = {
        name: read_metrics(run_dir, f"x{name}")["values"]["lenet_kid"]
        for name in ("newest", "best", "again", "zero", "one")
    }
    assert values["best"] == values["again"] == values["zero"]
    assert len({values[name] for name in ("newest", "best", "one")}) == 3


def test_a_run_that_cannot_be_measured_is_named_and_the_others_are_measured(
    sweep: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(sweep.iterdir())
    (first / "metrics-x.json").mkdir()
    third = shutil.copytree(second, sweep / "third")
    path = checkpoint_paths(third)[0]
    saved = torch.load(path, weights_only=True)
    next(iter(saved["average"].values())).fill_(torch.nan)
    torch.save(saved, path)
    with pytest.raises(SystemExit) as stopped:
        evaluate(sweep, "metrics=default", "samples=60", "name=x")
    out, err = capsys.readouterr()
    unwritten, unmeasured = err.splitlines()
    assert stopped.value.code == 2
    assert unwritten.startswith(f"{first}/metrics-x.json: cannot be written (")
    assert unmeasured == f"{third}: at step 40 the generator's samples are not finite"
    # The values of the first one are not lost.
    assert out.count("0.001,seed=") == 2
    assert read_metrics(second, "x")["values"]
    assert not (third / "metrics-x.json").exists()


def test_data_of_a_run_are_found_at_another_place(
    sweep: Path, evaluate: Evaluate, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = min(sweep.iterdir())
    cfg = read_config(run_dir)
    assert with_data_at(cfg, ["data.root=~/here"]).data.root == str(Path.home() / "here")
    evaluate(run_dir, "metrics=default", "samples=60", f"data.root={data_root}", "name=x")
    assert read_metrics(run_dir, "x")["values"]
    with pytest.raises(SystemExit):
        evaluate(run_dir, "metrics=default", "data.held_out=3", "name=y")
    assert "of which only the place may be another (allowed: data.root)" in capsys.readouterr().err


def test_a_floor_needs_training_samples_enough_and_a_metric_that_has_one(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mnist5k(root=str(data_root))
    settings = metric_settings("lenet_fid,precision,data_copying", 200, "test")
    measure = make_evaluator(settings, data)
    assert list(measure.floor() or {}) == ["lenet_fid", "precision"]
    size = data.real_size
    monkeypatch.setattr(data, "real_size", lambda split: 100 if split == "train" else size(split))
    assert list(measure.floor() or {}) == ["precision"]


def test_a_folder_of_images_with_a_result_of_another_program_is_measured(
    tmp_path: Path, evaluate: Evaluate, data_root: Path
) -> None:
    _, pictures = write_samples(tmp_path, mnist5k(root=str(data_root)), 20)
    (pictures / "result.json").write_text('{"images": [], "annotations": []}')
    evaluate(pictures, "data=mnist5k", "metrics=default", "samples=20")
    assert (pictures / "metrics-default.json").exists()


def test_a_run_is_measured_by_ones_own_extractor_and_protocol(
    sweep: Path, own: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = min(sweep.iterdir())
    evaluate(run_dir, f"--config-dir={own}", "protocol=mine")
    found = read_metrics(run_dir, "mine")
    assert (found["protocol"], found["samples"], found["real"]) == ("mine", 60, 90)
    assert found["features"]["name"] == "row_features.rows"
    assert "protocol=mine" in capsys.readouterr().out
    evaluate(run_dir, f"--config-dir={own}", "protocol=mine", "features.power=2", "name=changed")
    changed = read_metrics(run_dir, "changed")
    assert "protocol" not in changed
    assert changed["features"]["sha256"] != found["features"]["sha256"]
    assert changed["values"] != found["values"]


def test_values_of_two_protocols_or_extractors_are_not_ranked_together(
    sweep: Path, own: Path, evaluate: Evaluate
) -> None:
    first, second = sorted(sweep.iterdir())
    words = (f"--config-dir={own}", "name=x")
    evaluate(first, "protocol=mine", *words)
    evaluate(second, "protocol=other", *words)
    columns = {"x/kid[protocol=mine]", "x/kid[protocol=other]"}
    assert columns < set(read_table([sweep]).frame.columns)
    evaluate(second, "protocol=mine", *words)
    table = read_table([sweep])
    assert "x/kid" in table.frame
    assert "x/...: measured by protocol=mine" in table.notes
    evaluate(second, "protocol=mine", "features.power=2", *words)
    columns = {"x/kid[protocol=mine]", "x/kid[protocol=none]"}
    assert columns < set(read_table([sweep]).frame.columns)


def test_a_changed_protocol_needs_a_name_of_its_own(
    sweep: Path, own: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"--config-dir={own}", "protocol=mine", "samples=50")
    with pytest.raises(SystemExit):
        evaluate(min(sweep.iterdir()), *words)
    assert "the other options make it another protocol; give a name" in capsys.readouterr().err
    evaluate(min(sweep.iterdir()), *words, "name=changed")
    assert read_metrics(min(sweep.iterdir()), "changed")["samples"] == 50


def test_a_protocol_that_does_not_fit_the_data_is_refused_before_anything_starts(
    sweep: Path, own: Path, evaluate: Evaluate, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (own / "protocol" / "large.yaml").write_text(
        MINE.format(about="Large", features="lenet", real=1001)
    )
    with pytest.raises(SystemExit):
        evaluate(min(sweep.iterdir()), f"--config-dir={own}", "protocol=large")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("protocol=large: does not fit here; metrics.real=1001: must be at most")
    assert not list(sweep.rglob("metrics-*.json"))


def test_a_run_that_trains_with_a_protocol_stores_and_shows_its_name(
    own: Path, tmp_path: Path
) -> None:
    words = ["protocol=mine", "metrics.samples=60", "metrics.every=20", "logging=quiet"]
    cfg = short(f"--config-dir={own}", *words)
    run(cfg, tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result
    assert result["measured"]["protocol"] == "mine"
    assert result["measured"]["features"]["name"] == "row_features.rows"
    table = read_table([tmp_path / "run"])
    assert set(table.frame["protocol"]) == {"mine"}
    assert table.notes == ["measured by protocol=mine"]


@pytest.mark.parametrize("changed", [Options(truncation=0.5), Options(standing=3)])
def test_a_protocol_measures_samples_as_they_are_made(changed: Options) -> None:
    changed.protocol = "lucic"
    with pytest.raises(UserError, match=r"protocol=lucic (truncation=0\.5|standing=3): a protocol"):
        measuring_config(changed)
