"""The functions of the package: what a notebook trains is what the command line trains."""

import base64
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from runs import SHORT, short
from sweep_commands import TINY, execute, resume_command, sweep_command

import gan
import gan.run.directory
from gan.commands.generate import write_samples
from gan.errors import JobsFailed, UserError
from gan.run.result import read_result, write_result


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a run with averaged weights."""
    folder = tmp_path_factory.mktemp("api") / "run"
    gan.run(*SHORT, "trainer.ema_half_life=200", run_dir=folder)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a conditional run."""
    folder = tmp_path_factory.mktemp("api") / "run"
    gan.run(short("model.conditional=true", "metrics=none"), folder)
    return folder


def jobs(sweep_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (sweep_dir / "jobs.jsonl").read_text().splitlines()]


def test_importing_the_package_loads_no_other_library(tmp_path: Path) -> None:
    code = """
import sys
before = set(sys.modules)
import gan
assert {"run", "sweep", "load_runs"} <= set(dir(gan))
new = {name.partition(".")[0] for name in set(sys.modules) - before}
assert not new - set(sys.stdlib_module_names) - {"gan"}, new
gan.compose("trainer=smoke")
assert not {"torch", "pandas"} & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_function_and_the_modules_of_the_same_name_are_both_there() -> None:
    assert callable(gan.run)
    assert callable(gan.sweep)
    assert gan.run.directory.CONFIG_FILE == "config.yaml"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        gan.trian  # type: ignore[attr-defined]  # noqa: B018


def test_a_run_by_overrides_and_by_its_configuration_are_the_same(tmp_path: Path) -> None:
    by_overrides = gan.run(*TINY, "metrics=default", run_dir=tmp_path / "a")
    by_configuration = gan.run(gan.compose(*TINY, "metrics=default"), tmp_path / "b")
    named = gan.run(gan.compose(*TINY, "metrics=default"), run_dir=tmp_path / "b")
    assert by_overrides.objective == by_configuration.objective == named.objective
    assert "- data=digits" in (tmp_path / "a/overrides.yaml").read_text()
    logged = [gan.history(tmp_path / name) for name in "ab"]
    assert logged[0].equals(logged[1])


def test_a_run_gives_its_objective_history_samples_and_pictures(run_dir: Path) -> None:
    opened = gan.open_run(run_dir)
    again = gan.run(*SHORT, "trainer.ema_half_life=200", run_dir=run_dir)
    assert again == opened
    result = read_result(run_dir)
    assert result
    assert (opened.status, opened.objective, float(opened)) == (
        "completed",
        *[result["objective"]] * 2,
    )
    assert opened.history.equals(gan.history(run_dir))
    assert torch.equal(opened.samples(3, seed=2), gan.sample(run_dir, 3, seed=2))
    truncated = opened.samples(3, seed=2, truncation=0.3)
    assert torch.equal(truncated, gan.sample(run_dir, 3, seed=2, truncation=0.3))
    assert not torch.equal(truncated, opened.samples(3, seed=2))
    titles = [axes.get_title() for axes in opened.plot().axes]
    assert titles == ["losses", "mean output of D", "sliced_wasserstein, lower is better"]
    line = f"{run_dir}: completed at step 40, sliced_wasserstein {result['objective']:.4g}"
    assert line in repr(opened)
    page = opened._repr_html_()
    assert line in page
    picture = base64.b64encode((run_dir / "samples/step-000040.png").read_bytes()).decode()
    assert picture in page


def test_a_run_that_trains_or_diverged_is_opened_too(run_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run_dir, tmp_path / "<run>"))
    (copy / "result.json").unlink()
    shutil.rmtree(copy / "samples")
    opened = gan.open_run(copy)
    assert opened.status == "interrupted"
    assert opened.objective == gan.open_run(run_dir).objective
    assert "<div>" in opened._repr_html_()
    assert "<run>" not in opened._repr_html_()
    write_result(copy, (read_result(run_dir) or {}) | {"status": "diverged"})
    assert opened.objective == math.inf
    with pytest.raises(UserError, match="not a run directory"):
        gan.open_run(tmp_path)


def test_a_notebook_shows_progress_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[str] = []

    class Display:
        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            shown.append(bundle["text/plain"])

    def display(bundle: dict[str, str], *, raw: bool, display_id: bool) -> Display:
        assert not shown
        shown.append(bundle["text/plain"])
        return Display()

    module = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None), __path__=[])
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    gan.run(*TINY, "metrics=default", run_dir=tmp_path / "a")
    assert re.fullmatch(r"step 30/30\nD loss .*\nsliced_wasserstein [\d.]+", shown[-1])
    before = list(shown)
    gan.run(*TINY, "metrics=default", "logging.progress=false", run_dir=tmp_path / "b")
    assert shown == before


def test_a_sweep_has_the_jobs_that_the_command_line_gives(tmp_path: Path) -> None:
    overrides = ("optimizer.lr=1e-4,2e-4", "loss=hinge,minimax")
    code, _, err = execute(sweep_command(tmp_path / "typed", *overrides))
    assert code == 0, err
    arguments = sys.argv.copy()
    table = gan.sweep(*TINY, "hydra.launcher.n_jobs=2", *overrides, sweep_dir=tmp_path / "called")
    assert jobs(tmp_path / "called") == jobs(tmp_path / "typed")
    assert sys.argv == arguments
    assert table["status"].tolist() == ["completed"] * 4
    assert set(table["lr"]) == {1e-4, 2e-4}
    assert set(table["loss"]) == {"hinge", "minimax"}
    # The same points as values finds the runs of the command line, in its directory too.
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("typed/*/result.json"))]
    grid = {"optimizer.lr": np.array([1e-4, 2e-4]), "loss": ("hinge", "minimax")}
    again = gan.sweep(grid, *TINY, sweep_dir=str(tmp_path / "typed"))
    assert len(again) == 4
    assert jobs(tmp_path / "called") == jobs(tmp_path / "typed")
    after = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("typed/*/result.json"))]
    assert after == before


def test_points_may_depend_on_a_choice(tmp_path: Path) -> None:
    points = {"penalty": ["none", "r1"], "penalty.gamma": "when(penalty=r1, 1,10)"}
    zipped = {"study": "zip(model=choice(small,base),seed=choice(1,2))"}
    for sweep, count in ((points, 3), (zipped, 2)):
        path = tmp_path / str(count)
        settings = ("sweep.dry_run=true", "sweep.where=seed >= 0")
        assert gan.sweep(sweep, *TINY, *settings, sweep_dir=path).empty
        assert len(gan.sweep(sweep, *TINY, "trainer.max_steps=2", sweep_dir=path)) == count


@pytest.mark.slow
def test_a_sweep_over_a_list_of_points_trains_these_alone(tmp_path: Path) -> None:
    points: list[dict[str, Any]] = [
        {"loss": "hinge"},
        {"loss": "wasserstein", "penalty": "wgan_gp", "seed": 3},
    ]
    table = gan.sweep(points, *TINY, sweep_dir=tmp_path / "a", launcher="vectorized")
    assert {job["name"] for job in jobs(tmp_path / "a")} == {
        "loss=hinge,seed=0",
        "loss=wasserstein,penalty=wgan_gp,seed=3",
    }
    assert table["status"].tolist() == ["completed"] * 2
    # One more point in the same directory.
    more = gan.sweep([{"loss": "minimax"}], *TINY, sweep_dir=tmp_path / "a")
    assert set(more["loss"]) == {"hinge", "wasserstein", "minimax"}


@pytest.mark.slow
def test_a_search_from_python_is_resumed_by_its_own_command_line(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    settings = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2")
    folder = tmp_path / "it's a search, resumed"
    table = gan.sweep("optimizer.lr=interval(1e-4,1e-3)", *settings, *TINY, sweep_dir=folder)
    assert table["status"].tolist() == ["completed"] * 2
    before = jobs(folder)
    code, out, err = execute(resume_command(folder))
    assert (code, err) == (0, "")
    assert out.count("completed") == 2
    assert jobs(folder) == before


def test_a_sweep_over_nothing_is_one_run(tmp_path: Path) -> None:
    table = gan.sweep("seed=0", *TINY, sweep_dir=tmp_path / "a")
    assert table[["run", "status"]].values.tolist() == [["run", "completed"]]


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = gan.sweep({"seed": range(3)}, *TINY, "sweep.dry_run=true", sweep_dir=tmp_path / "a")
    assert table.empty
    assert "3 runs, 0 done, 3 to run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_whose_runs_fail_raises_after_the_others_are_done(tmp_path: Path) -> None:
    points = {"data": ["digits", "mnist5k"], "device": "cpu"}
    overrides = [text for text in TINY if not text.startswith(("data=", "trainer.batch_size="))]
    overrides += ["trainer.batch_size=2000", "metrics=none"]
    with pytest.raises(JobsFailed, match="1 of 2 runs failed"):
        gan.sweep(points, *overrides, sweep_dir=tmp_path / "a")
    table = gan.load_runs(tmp_path / "a").set_index("data")
    assert table["status"].to_dict() == {"mnist5k": "completed", "digits": "failed"}
    assert "must be at most" in table["error"]["digits"]


@pytest.mark.parametrize(
    ("points", "overrides", "expected"),
    [
        (
            {"optimizer.lrr": [1, 2]},
            [],
            "unknown key 'optimizer.lrr'; did you mean 'optimizer.lr'?",
        ),
        ({"optimizer.lr": ["a", "b"]}, [], "optimizer.lr=a: must be a number"),
        ({"loss": ["hing", "minimax"]}, [], "loss=hing: no such option"),
        ({"seed": [0, 1]}, ["los=hinge"], "unknown key 'los'"),
        ({"seed": []}, [], "seed: has no values"),
        ([{"seed": 1}], ["seed=2"], "seed=2 is set for all points, and by a point itself"),
        ([], [], "there are no points"),
        ({"seed": [0, 1]}, ["hydra/launcher=slrm"], "did you mean 'slurm'?"),
    ],
)
def test_a_sweep_with_a_mistake_is_refused_and_leaves_nothing(
    points: Any, overrides: list[str], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        gan.sweep(points, *overrides, sweep_dir=tmp_path / "a")
    assert expected in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_mistake_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'hinge'"):
        gan.run("loss=hing", run_dir=tmp_path / "a")
    cfg: Any = gan.compose()
    for arguments in ((), (cfg,), (cfg, tmp_path, "a"), ("loss=hinge",)):
        with pytest.raises(UserError, match="takes a configuration, or overrides, and run_dir=DIR"):
            gan.run(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sweep.seeds=5", "sweep.seeds=5: is about a sweep, and this is one run; see gan.sweep"),
        ("hydra/launcher=slurm", "hydra/launcher=slurm: is about a sweep"),
        ("hydra.run.dir=x", "hydra.run.dir=x: has no effect here; give run_dir=DIR"),
        ("experiment=zoo", "experiment=zoo: is a sweep, and gan.run trains one run"),
    ],
)
def test_words_without_effect_on_one_run_are_refused(
    word: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        gan.run(word, run_dir=tmp_path / "a")
    assert expected in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_home_is_meant_by_a_tilde_and_choices_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: gan.losses.hinge\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    short = ("data=digits", "trainer.max_steps=3", "metrics=none", "threads=1")
    made = gan.run("--config-dir", "conf", "loss=mine", *short, run_dir="~/a")
    assert made.run_dir == tmp_path / "a"
    assert gan.open_run("~/a").status == "completed"
    assert len(gan.load_runs("~/a")) == 1
    assert len(gan.history("~/a")) > 0
    assert gan.sample("~/a", 2).shape == (2, 1, 28, 28)
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["choices"]["loss"] == "mine"
    words = (tmp_path / "a" / "overrides.yaml").read_text()
    assert f"--config-dir={tmp_path / 'conf'}" in words
    table = gan.sweep({"seed": [1, 2]}, *short, sweep_dir="~/s")
    assert list(table["seed"]) == [1, 2]
    assert not (tmp_path / "~").exists()


def test_samples_are_those_that_the_command_draws(
    run_dir: Path, conditional: Path, tmp_path: Path
) -> None:
    for folder, labels, t in (
        (run_dir, None, None),
        (conditional, None, 0.5),
        (conditional, 7, None),
    ):
        write_samples(folder, tmp_path / "a.npz", count=23, seed=5, label=labels, truncation=t)
        drawn = gan.sample(str(folder), 23, seed=5, labels=labels, truncation=t)
        assert drawn.dtype == torch.uint8
        with np.load(tmp_path / "a.npz") as arrays:
            assert np.array_equal(drawn.permute(0, 2, 3, 1).numpy(), arrays["images"])
    loaded = gan.load_generator(run_dir)
    assert torch.equal(gan.sample(loaded, 4, seed=1), gan.sample(run_dir, 4, seed=1))
    assert not torch.equal(gan.sample(loaded, 4, seed=1), gan.sample(loaded, 4, seed=2))


def test_samples_have_the_classes_that_are_asked_for(conditional: Path) -> None:
    mixed = gan.sample(conditional, 3, labels=[1, 7, 1])
    for row, label in enumerate((1, 7, 1)):
        assert torch.equal(mixed[row], gan.sample(conditional, 3, labels=label)[row])


def test_a_loaded_generator_is_ready_for_use(run_dir: Path) -> None:
    generator = gan.load_generator(str(run_dir))
    assert (generator.weights, generator.training, generator.classes) == ("average", False, 0)
    assert next(generator.parameters()).device.type == "cpu"
    images = generator(torch.randn(3, generator.latent_dim))
    assert images.shape == (3, 1, 28, 28)
    assert images.abs().max() <= 1
    assert gan.load_generator(run_dir, "generator").weights == "generator"


@pytest.mark.parametrize(
    ("n", "labels", "expected"),
    [
        (0, None, "n=0: must be at least 1"),
        (3, 10, "label=10: must be a class from 0 to 9"),
        (3, [1, 2], "labels: must be one class, or 3 of them, not 2"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(
    conditional: Path, n: int, labels: Any, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        gan.sample(conditional, n, labels=labels)


def test_what_holds_no_run_is_refused(run_dir: Path, tmp_path: Path) -> None:
    for read in (gan.history, gan.load_generator, gan.sample):
        with pytest.raises(UserError, match="not a run directory"):
            read(tmp_path)
    with pytest.raises(UserError, match="no runs found"):
        gan.load_runs(tmp_path)
    with pytest.raises(UserError, match="not conditional"):
        gan.sample(run_dir, 2, labels=1)
    with pytest.raises(UserError, match="not on this machine"):
        gan.load_generator(run_dir, device="cuda:99")
    assert read_result(run_dir) is not None
