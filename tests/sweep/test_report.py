"""Numbers in the reports of a sweep."""

import math

import pytest

from gan.run.measured import ways
from gan.sweep.report import print_ways, spread


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
