"""Tables are printed in formats that other programs read."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from fake_runs import make_run

from gan.compare.frame import read_table
from gan.compare.table import print_runs
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
