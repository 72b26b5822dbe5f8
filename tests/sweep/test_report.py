"""Reports of a sweep."""

import math
import re

import pytest

from gan.launchers.base import Progress, Started
from gan.run.measured import ways
from gan.run.result import Status
from gan.sweep.plan import Job
from gan.sweep.report import LiveDisplay, print_runs, print_ways, spread
from gan.sweep.schedule import JobEnded


def test_spread_is_the_median_and_the_interquartile_range() -> None:
    assert spread([4.0]) == (4.0, 0.0)
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0)
    assert spread([1.0, 2.0, math.inf]) == (2.0, math.inf)
    assert spread([1.0, 2.0, 3.0, 4.0, math.inf]) == (3.0, 2.0)
    assert spread([1.0, math.inf, math.inf])[0] == math.inf


def test_a_sweep_over_numbers_of_samples_warns_that_its_order_means_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configs = [{"metrics.samples": samples} for samples in (600, 600, 1000)]
    print_ways("lenet_fid", ways("lenet_fid", [({}, config) for config in configs]))
    assert capsys.readouterr().out == (
        "lenet_fid was measured in ways that do not compare, so its order means nothing: "
        "samples=600; samples=1000\n"
    )
    print_ways("lenet_fid", ways("lenet_fid", [({}, config) for config in configs[:2]]))
    print_ways("prob/real", ways("prob/real", [({}, config) for config in configs]))
    assert capsys.readouterr().out == ""


def test_a_finished_sweep_shows_counters_that_agree_and_no_empty_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    jobs = [Job(f"lr={lr}", str(lr), [], {}) for lr in (1, 2)]
    display = LiveDisplay(2, [], "lenet_fid")
    with display.live():
        for job in jobs:
            display.show(Started(job.name))
            display.show(Progress(job.name, 5, 10, {"lenet_fid": 3.0}))
        display.show(JobEnded(jobs[0], Status.DIVERGED, math.inf, None))
        display.show(JobEnded(jobs[1], Status.COMPLETED, 3.0, None))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert "[1/2] lr=1: diverged, 0 s" in lines
    assert "[2/2] lr=2: completed, lenet_fid 3, 0 s" in lines
    assert lines[-1] == "2/2 done (1 diverged), best lenet_fid 3 (lr=2)"


def test_runs_without_an_objective_keep_their_order_and_are_not_ranked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = {"objective": None, "steps": 10, "seconds": 1.0}
    print_runs([(name, Status.COMPLETED, result) for name in ("b", "a")], None)
    header, *rows, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["run", "status", "steps", "time"]
    assert [row.split()[0] for row in rows] == ["b", "a"]
    assert last == "nothing was measured (metrics=none), so the runs are in no order"
