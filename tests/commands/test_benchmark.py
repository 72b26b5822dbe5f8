"""scripts/benchmark.py: its tables, from one short round each."""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from runs import SCRIPTS

Benchmark = Callable[..., None]
"""A function that runs scripts/benchmark.py with some options, in this process."""


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("benchmarks.command")


@pytest.fixture
def benchmark(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
        module.main()

    return call


def test_the_help_lists_what_can_be_timed(
    module: ModuleType, benchmark: Benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark("--help")
    text = capsys.readouterr().out
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("what=")]
    assert listed == [f"what={name}" for name in module.KINDS]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "what=metric",
            "what=metric: must be one of steps, waiting, sweeps, metrics, compare, size, "
            "vectorized; ",
        ),
        ("rounds=0", "rounds=0: must be at least 1"),
        ("steps=0", "steps=0: must be at least 1"),
        ("runs=0", "runs=0: must be at least 1"),
        ("here", "here: no paths are needed"),
    ],
)
def test_a_wrong_option_is_one_line(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], argument: str, expected: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark(argument)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ("what=metrics samples=520", ["FID,", "KID,", "PRDC,", "LeNet's", "metrics=fast"]),
        (
            "what=steps steps=2 hidden_dim=16 compile=false threads=1",
            ["plain", "ours,", "ours,", "ours,", "products", "products", "limit:"],
        ),
    ],
)
def test_every_row_has_a_positive_number(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], arguments: str, rows: list[str]
) -> None:
    benchmark("rounds=1", *arguments.split())
    table = cells(capsys.readouterr().out)
    assert [name.split()[0] for name, *_ in table] == rows
    assert all(float(seconds_or_rate) > 0 for _, seconds_or_rate, *_ in table)


@pytest.mark.slow
def test_sweeps_of_three_sizes_are_timed(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    benchmark("what=size", "runs=100")
    rows = cells(capsys.readouterr().out)
    searches = [f"search of {n} trials, {name}" for name in ("random", "tpe") for n in (1, 5, 50)]
    grids = [f"grid of {n} runs" for n in (1, 10, 100)]
    assert [name for name, *_ in rows] == ["1", "10", "100", *grids, *searches]
    for _, *values in rows:
        assert all(float(value.split()[0]) >= 0 for value in values)


@pytest.mark.slow
def test_runs_are_timed_together_one_after_another_and_in_processes(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", compile)
    benchmark("what=vectorized", "rounds=1", "steps=1", "members=2", "hidden_dim=16", "data=digits")
    text = capsys.readouterr().out
    table = {name: values for name, *values in cells(text)}
    trained = ["one after another", "together", "2 processes, 1 thread each"]
    limits = [f"{part}, {name}" for part in ("products", "launches") for name in trained[:2]]
    compiled = [f"{name}, compiled" for name in trained[:2]]
    assert list(table) == [*trained, *limits, *compiled]
    for name in [*trained, *limits]:
        milliseconds, rate, ratio, *rest = table[name]
        assert float(milliseconds) > 0
        assert min(float(rate), float(ratio)) >= 0
        assert all(float(value) >= 0 for value in rest if name in trained)
    assert table["one after another"][2] == "1.00"
    for name in compiled:
        assert table[name] == ["-"] * 5
        assert f"{name}: RuntimeError: no compiler" in text


def cells(text: str) -> list[list[str]]:
    """Return the cells of each row of a printed table."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
