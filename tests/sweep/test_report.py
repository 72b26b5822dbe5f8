"""Numbers in the reports of a sweep."""

import math

from gan.sweep.report import spread


def test_spread_is_the_median_and_the_interquartile_range() -> None:
    assert spread([4.0]) == (4.0, 0.0)
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0)
    assert spread([1.0, 2.0, math.inf]) == (2.0, math.inf)
    assert spread([1.0, 2.0, 3.0, 4.0, math.inf]) == (3.0, 2.0)
    assert spread([1.0, math.inf, math.inf])[0] == math.inf
