"""Tables are printed in formats that other programs read."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import make_run
from rich.console import Console

from gan.compare.frame import read_table
from gan.compare.query import where
from gan.compare.table import _important_columns, _print_as, print_runs
from gan.errors import UserError


@pytest.mark.parametrize("form", ["csv", "json", "markdown", "latex", "table"])
def test_formats_can_be_read_back(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs" / "a|b_\x1b[31m", "notes='50% | _x_'", value=1e-7)
    make_run(tmp_path / "runs" / "c")
    print_runs(read_table([tmp_path / "runs"]), form)
    text = capsys.readouterr().out
    if form == "csv":
        assert pd.read_csv(io.StringIO(text))["sliced_wasserstein"].tolist() == [1e-7, 0.5]
    elif form == "json":
        assert json.loads(text)[0]["sliced_wasserstein"] == 1e-7
        assert json.loads(text)[0]["error"] is None
    elif form == "markdown":
        assert "50% \\| _x_" in text
        rows = [line.replace("\\|", "").count("|") for line in text.splitlines()]
        assert set(rows) == {rows[0]}
    elif form == "latex":
        assert r"50\% | \_x\_" in text
    else:
        assert "2 runs: 2 completed" in text
    assert "\x1b" not in text


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'latex'"):
        print_runs(read_table([make_run(tmp_path / "run")]), "latx")


@pytest.mark.parametrize("width", [80, 120])
def test_narrow_terminal_shows_names_swept_keys_status_and_objective(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "optimizer.lr=0.1", "model.hidden_dim=64"
    for seed in range(3):
        name = f"hidden_dim=64,lr=0.1,seed={seed}"
        make_run(tmp_path / "sweep" / name, *words, f"seed={seed}", f"optimizer.lr={seed + 1}")
    make_run(tmp_path / "2026-01-01" / "10-00-00-gan-12345678", "recipe=wgan_gp", "model=dcgan")
    make_run(tmp_path / "2026-01-01" / "11-00-00-gan-12345678", "loss=hinge", "penalty=none")
    screen = io.StringIO()
    wide = Console(width=width, force_terminal=True, color_system=None, file=screen)
    monkeypatch.setattr("gan.compare.table.console", lambda *_: wide)
    print_runs(read_table([tmp_path]), "table")
    header, *lines = screen.getvalue().splitlines()
    assert {"run", "status", "sliced_wasserstein", "lr", "seed"} <= {*header.split()}
    assert all(len(line) <= width for line in lines if "too narrow" not in line)
    assert "too narrow for" in screen.getvalue()
    assert len(re.findall("completed +0.5", screen.getvalue())) == 5


def test_keys_that_say_nothing_about_the_shown_runs_are_left_out(tmp_path: Path) -> None:
    for number, dim in enumerate((16, 32, 32)):
        words = f"model.hidden_dim={dim}", f"optimizer.lr={0.1 + number % 2}"
        make_run(tmp_path / f"{number}", *words)
    table = read_table([tmp_path])
    assert _important_columns(table)[1:3] == ["hidden_dim", "lr"]
    assert _important_columns(where(table, "hidden_dim == 32"))[1:2] == ["lr"]


def test_runs_without_metrics_are_shown_with_their_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = {"problem": "mode collapse", "since": 250, "text": "It has collapsed."}
    for lr in ("1e-4", "1e-3"):
        make_run(tmp_path / lr, "metrics=none", f"optimizer.lr={lr}", verdict=verdict)
    print_runs(read_table([tmp_path]), "table")
    head, *rows, _ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "lr", "status", "verdict"]
    assert all("completed  mode collapse" in row for row in rows)


def test_json_has_every_digit_and_says_what_is_infinite(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"a": [1.23456789e-9, 3e-12], "b": [np.inf, np.nan], "c": [None, "x"]})
    _print_as("json", frame)
    assert json.loads(capsys.readouterr().out) == [
        {"a": 1.23456789e-9, "b": "inf", "c": None},
        {"a": 3e-12, "b": None, "c": "x"},
    ]
