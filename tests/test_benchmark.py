"""scripts/benchmark.py: each of its tables, from a few cheap rounds."""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from runs import SCRIPTS

from gan.cli import script

Benchmark = Callable[..., None]
"""Calls scripts/benchmark.py with options, in this process."""


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("benchmark")


@pytest.fixture
def benchmark(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["benchmark.py", *arguments])
        monkeypatch.setitem(sys.modules, "__main__", module)
        script(module.benchmark, module.Options)

    return call


def test_the_help_lists_what_can_be_timed(
    module: ModuleType, benchmark: Benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark("--help")
    assert not ended.value.code
    said = capsys.readouterr().out
    listed = [line.split()[0] for line in said.splitlines() if line.startswith("what=")]
    assert listed == [f"what={name}" for name in module.KINDS]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("what=metric", "what=metric: must be one of steps, sweeps, metrics, compare; did you"),
        ("rounds=0", "rounds=0: must be at least 1"),
        ("here", "here: no paths are needed"),
    ],
)
def test_mistakes_are_one_line(
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
        ("what=steps steps=2 hidden_dim=16", ["plain", "ours", "ours,", "matrix"]),
    ],
)
def test_every_row_has_its_numbers(
    benchmark: Benchmark, capsys: pytest.CaptureFixture[str], arguments: str, rows: list[str]
) -> None:
    benchmark("rounds=1", *arguments.split())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    table = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [name.split()[0] for name, *_ in table] == rows
    assert all(float(seconds_or_rate) > 0 for _, seconds_or_rate, *_ in table)
