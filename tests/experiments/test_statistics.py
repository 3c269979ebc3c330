import math

import numpy as np
import pytest

from tlprune.experiments.statistics import estimate, paired_difference


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = sum(
        abs(found.mean - 5) <= found.half_width for found in (estimate(rng.normal(5, 2, 4)) for _ in range(2000))
    )
    assert 0.935 < hits / 2000 < 0.965


def test_single_value_has_no_interval():
    found = estimate([3.0])
    assert found.mean == 3
    assert math.isnan(found.half_width)


def test_pairs_cancel_what_they_share():
    shared = [80.0, 90.0, 70.0, 95.0]
    found = paired_difference(
        [value + 2 + change for value, change in zip(shared, (0.1, -0.1, 0, 0), strict=True)], shared
    )
    assert found.mean == pytest.approx(2)
    assert 0 < found.low < found.high < 2.5
