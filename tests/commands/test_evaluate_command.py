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

import pytest
import torch
from omegaconf import DictConfig
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
from gan.data import mnist5k
from gan.errors import UserError
from gan.run.checkpoint import checkpoint_paths
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
        (["seed=7"], "seed=7: unknown option 'seed'; allowed: metrics, name, samples"),
        (["{run}", "metric=fast"], "unknown option 'metric'; allowed: metrics, name, samples"),
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
        (["{run}", "metrics=default", "samples=9", "name=a/b"], "metrics-a/b.json: cannot be"),
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
