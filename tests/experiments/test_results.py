import json

import pytest

from tlprune.errors import InputError
from tlprune.experiments.results import NONE, RESULTS, Cell, Group, MethodInfo, Results, Score
from tlprune.experiments.statistics import estimate


@pytest.fixture
def results():
    """Two seeds of no pruning, three of LM at two ratios; LM's third seed has no counterpart."""
    found = Results(
        "small",
        {"name": "s"},
        {"t": {"split": "x"}},
        {NONE: MethodInfo("no pruning"), "lm": MethodInfo("LM")},
        ["probe"],
    )
    for method, ratio, vals in ((NONE, 0.0, (90, 92)), ("lm", 0.5, (91, 91.5, 70)), ("lm", 0.7, (89, 92.5, 99))):
        for seed, val in enumerate(vals):
            scores = {"probe": Score(val, val - 5, 2.0)}
            paid = (0, 0, 10 + seed) if method == NONE else (2, 1, 4 + seed)
            kept = (10, round(10 * (1 - ratio)), 100, round(100 * (1 - ratio)))
            found.cells.append(Cell("t", method, ratio, "epochs", seed, *kept, *paid, 55.0, scores, None))
    return found


def test_saved_results_are_read_as_they_were(results, tmp_path):
    results.save(tmp_path)
    assert Results.load(tmp_path) == results


def test_differences_are_paired_by_the_seeds_that_both_have(results):
    found = results.difference(Group("t", "lm", 0.5), Group("t", NONE), "probe", "val")
    assert found == estimate([1.0, -0.5])
    assert results.difference(Group("t", "lm", 0.9), Group("t", NONE), "probe") is None


def test_the_saving_counts_surrogate_and_selection(results):
    group = Group("t", "lm", 0.5)
    assert results.seconds(group) == (2, 1, 5)
    assert results.saving(group) == pytest.approx(1 - 8 / 10.5)
    assert results.saving(group, reused=True) == pytest.approx(1 - 6 / 10.5)
    assert results.saving(Group("other", "lm", 0.5)) is None


def test_groups_come_in_the_order_of_methods_and_ratios(results):
    results.cells.reverse()
    assert [(one.method, one.ratio) for one in results.groups("t")] == [(NONE, 0.0), ("lm", 0.5), ("lm", 0.7)]
    assert [one.seed for one in results.of(Group("t", "lm", 0.5))] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "No such file"),
        ("not json", "not JSON"),
        ({"tlprune": "other"}, "not the results of a sweep"),
        ({"schema": 9}, "written by another tlprune"),
        ({"cells": [{"target": "t"}]}, "damaged"),
        ({"methods": 3}, "damaged"),
    ],
)
def test_what_is_no_results_is_refused_by_name(results, tmp_path, change, message):
    results.save(tmp_path)
    path = tmp_path / RESULTS
    if change is None:
        path.unlink()
    elif isinstance(change, str):
        path.write_text(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as raised:
        Results.load(tmp_path)
    assert RESULTS in str(raised.value)
