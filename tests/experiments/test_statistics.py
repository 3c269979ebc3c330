import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from tlprune.experiments.statistics import correlation_within, estimate, paired_difference, pooled


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


def slow_residuals(values, groups):
    return [
        value - sum(of := [other for other, same in zip(values, groups, strict=True) if same == group]) / len(of)
        for value, group in zip(values, groups, strict=True)
    ]


@pytest.mark.parametrize("case", range(20))
def test_correlation_within_groups_equals_the_slow_reference(case):
    rng = np.random.default_rng(case)
    groups = rng.integers(0, 4, 30).tolist()
    groups[7] = "alone"
    shifts = {group: rng.normal(0, 50) for group in set(groups)}  # what groups share must not count
    first = [float(rng.integers(0, 4)) + shifts[group] for group in groups]  # ties are common
    second = [float(rng.integers(0, 4)) - shifts[group] for group in groups]
    clusters = [group if group == "alone" else group % 2 for group in groups]
    pairs = [[round(value, 6) for value in slow_residuals(values, groups)] for values in (first, second)]
    pairs = [[value for value, group in zip(values, groups, strict=True) if group != "alone"] for values in pairs]
    found = correlation_within(first, second, groups, clusters)
    assert found.value == pytest.approx(spearmanr(*pairs).statistic)
    assert (found.count, found.clusters) == (29, 2)
    assert -1 <= found.low <= found.high <= 1


def test_the_interval_of_a_correlation_covers_what_clusters_differ_by():
    """Clusters of two kinds disagree, so that one cluster more or less decides; alike, they leave no doubt."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(24), 5).tolist()
    first = rng.normal(size=120).tolist()
    agree = [value + 0.1 * rng.normal() for value in first]
    mixed = [value * (1 if group % 2 else -1) for value, group in zip(agree, groups, strict=True)]
    sure, unsure = (correlation_within(first, second, groups, groups) for second in (agree, mixed))
    assert sure.low > 0.9
    assert unsure.low < -0.1 < 0.1 < unsure.high
    assert correlation_within(first, mixed, groups, groups) == unsure  # its draws are the same each time


def test_what_does_not_vary_within_groups_has_no_correlation():
    assert correlation_within([1, 1, 2, 2], [1, 2, 3, 4], "aabb", "aabb") is None
    assert correlation_within([1, 2, 3], [3, 2, 1], "abc", "abc") is None
    assert correlation_within([], [], "", "") is None
    found = correlation_within([1, 2, 3], [3, 2, 1], "aaa", "aaa")
    assert found.value == pytest.approx(-1)
    assert math.isnan(found.low)


def slow_interval(grid):
    """Targets and seeds drawn with replacement, value by value."""
    rng = np.random.default_rng(5)
    rows, columns = len(grid), len(grid[0])
    means = []
    for _ in range(4000):
        some, others = rng.integers(0, rows, rows), rng.integers(0, columns, columns)
        means.append(sum(grid[row][column] for row in some for column in others) / (rows * columns))
    return np.quantile(means, [0.025, 0.975])


@pytest.mark.parametrize("case", range(5))
def test_pooled_intervals_draw_targets_and_seeds(case):
    rng = np.random.default_rng(case)
    grid = rng.normal(1, 1, (12, 1)) + rng.normal(0, 1 + case, (1, 3)) + rng.normal(0, 0.5, (12, 3))
    found = pooled({(f"t{row}", column): grid[row, column] for row in range(12) for column in range(3)})
    assert found.mean == pytest.approx(grid.mean())
    assert (found.low, found.high) == pytest.approx(slow_interval(grid.tolist()), abs=0.25)
    assert (found.targets, found.seeds, found.won) == (12, 3, int((grid.mean(1) > 0).sum()))


def test_pooled_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        values = rng.normal(2, 3, 20)
        found = pooled({(row, 0): value for row, value in enumerate(values.tolist())})
        hits += found.low <= 2 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_missing_pairs_are_left_out_and_a_single_value_has_no_interval():
    found = pooled({("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): -1.0})
    assert (found.mean, found.won, found.targets, found.seeds) == (0.5, 1, 2, 2)
    assert math.isnan(pooled({("a", 0): 1.0}).low)


def test_names_and_order_of_targets_do_not_change_an_interval():
    rng = np.random.default_rng(2)
    grid = rng.normal(1, 2, (9, 2))
    values = {(f"t{row}", seed): grid[row, seed] for row in range(9) for seed in range(2) if (row, seed) != (3, 1)}
    shuffled = {
        (f"other {(7 * row) % 9}", seed): grid[row, seed]
        for row, seed in [(int(name[1:]), seed) for name, seed in reversed(values)]
    }
    assert pooled(values) == pooled(shuffled)
