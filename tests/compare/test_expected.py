"""`compare.py DIR check`: runs beside the numbers that the file of their experiment states."""

import json
from pathlib import Path
from typing import Any

import pytest
from runs import SHORT

from gan.commands.compare import CHECK, Options, compare
from gan.config.compose import compose
from gan.errors import UserError
from gan.run.result import read_result
from gan.train import run

EXPERIMENT = """\
# @package _global_
defaults:
  - override /data: digits

name: tiny
trainer:
  max_steps: 2
expected:
  - {metric: sliced_wasserstein, least: LEAST, most: MOST, runs: 2}
  - {metric: sliced_wasserstein, most: MOST, where: "seed == 1"}
"""
FREE = ("threads=1", "logging.tensorboard=false")


def write_experiment(folder: Path, least: float, most: float) -> None:
    path = folder / "experiment" / "tiny.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(EXPERIMENT.replace("LEAST", str(least)).replace("MOST", str(most)))


def train_tiny(folder: Path, run_dir: Path, *overrides: str) -> float:
    """Train the experiment and return its sliced_wasserstein."""
    words = [f"--config-dir={folder}", "experiment=tiny", *FREE, *overrides]
    run(compose(*words), run_dir, overrides=words, choices={"experiment": "tiny"})
    result = read_result(run_dir)
    assert result
    return float(result["final"]["sliced_wasserstein"])


def test_numbers_hold_if_the_median_over_seeds_lies_in_the_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf, runs = tmp_path / "conf", tmp_path / "runs"
    write_experiment(conf, 0, 1e9)
    low, high = sorted(train_tiny(conf, runs / str(seed), f"seed={seed}") for seed in (0, 1))
    assert low < high
    compare([runs, CHECK], Options(format="csv"))
    assert capsys.readouterr().out.count("holds") == 2
    # The median of both lies between them.
    write_experiment(conf, low, (low + high) / 2 + 1e-6)
    with pytest.raises(SystemExit):
        compare([runs, CHECK], Options(format="csv", where="seed == 0"))
    assert "needs 2 runs" in capsys.readouterr().out
    write_experiment(conf, (low + high) / 2 - 1e-6, (low + high) / 2 + 1e-6)
    with pytest.raises(SystemExit) as ended:
        compare([runs, CHECK], Options(format="csv"))
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert "holds" in lines[1]
    assert lines[1].startswith("sliced_wasserstein,all runs,2,")
    write_experiment(conf, 0, low / 2)
    with pytest.raises(SystemExit):
        compare([runs, CHECK], Options(format="csv"))
    assert capsys.readouterr().out.count("does not hold") == 2


def test_runs_with_other_settings_are_not_checked(tmp_path: Path) -> None:
    conf, run_dir = tmp_path / "conf", tmp_path / "run"
    write_experiment(conf, 0, 1e9)
    train_tiny(conf, run_dir, "trainer.max_steps=1")
    fault = "has trainer.max_steps=1, and experiment=tiny has 2"
    with pytest.raises(UserError, match=fault):
        compare([run_dir, CHECK], Options())


def test_runs_without_expected_numbers_are_refused(tmp_path: Path) -> None:
    words = [*SHORT, "data=digits", "metrics=none", "trainer.max_steps=1"]
    run(compose(*words), tmp_path / "plain", overrides=words)
    with pytest.raises(UserError, match="is a run of no experiment"):
        compare([tmp_path / "plain", CHECK], Options())
    conf = tmp_path / "conf"
    write_experiment(conf, 0, 1)
    path = conf / "experiment" / "tiny.yaml"
    path.write_text(path.read_text().partition("expected:")[0])
    train_tiny(conf, tmp_path / "tiny")
    with pytest.raises(UserError, match="experiment=tiny: states no expected numbers"):
        compare([tmp_path / "tiny", CHECK], Options())


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("{metric: fidd}", "expected.0.metric=fidd: must be one of"),
        ("{metric: recall}", "expected.0: gives neither least nor most"),
        ("{metric: recall, least: 2, most: 1}", "expected.0.least=2.0: must be at most 1.0"),
        ("{metric: recall, least: 0, runs: 0}", "expected.0.runs=0: must be at least 1"),
    ],
)
def test_wrong_expectations_are_one_line(entry: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        compose(f"expected=[{entry}]")


def test_experiment_that_is_gone_or_is_no_name_is_one_line(tmp_path: Path) -> None:
    conf, run_dir = tmp_path / "conf", tmp_path / "run"
    write_experiment(conf, 0, 1e9)
    train_tiny(conf, run_dir)
    (conf / "experiment" / "tiny.yaml").unlink()
    with pytest.raises(UserError, match=r"^check: there is no experiment=tiny"):
        compare([run_dir, CHECK], Options())
    outside = tmp_path / "evil.yaml"
    outside.write_text("# @package _global_\nname: ${oc.env:HOME}\n")
    result = json.loads((run_dir / "result.json").read_text())
    for file in (run_dir / "result.json", run_dir / "provenance.json"):
        text = file.read_text().replace('"experiment": "tiny"', '"experiment": "../../../evil"')
        file.write_text(text)
    assert result
    with pytest.raises(UserError, match=r"^check: there is no experiment="):
        compare([run_dir, CHECK], Options())


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["best", "check"], {}, "best check: give one of them"),
        (["a=1", "versus", "a=2", "best"], {}, "best versus: give one of them"),
        (["best"], {"html": Path("a.html")}, "best html=a.html: give one of them"),
        ([], {"html": Path("a.html"), "png": Path("b")}, "html=a.html png=b: give one of them"),
        (["best"], {"columns": "lr"}, "columns=lr: has no effect with best"),
        (["check"], {"group": "seed"}, "group=seed: has no effect with check"),
        ([], {"group": "seed", "columns": "lr"}, "columns=lr: has no effect with group=seed"),
        ([], {"png": Path("b"), "format": "json"}, "format=json: has no effect with png=b"),
    ],
)
def test_options_of_which_one_would_do_nothing_are_refused(
    words: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        compare([Path(word) for word in words], Options(**options))


def test_mistyped_directories_are_not_taken_for_groups(tmp_path: Path) -> None:
    for word in ("best", "check"):
        with pytest.raises(UserError, match="typo"):
            compare([tmp_path / "typo", Path(word)], Options())
        with pytest.raises(UserError, match="typo"):
            compare([tmp_path / "typo1", tmp_path / "typo2", Path(word)], Options())
