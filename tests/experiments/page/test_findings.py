from dataclasses import replace

import pytest
from scipy.stats import ttest_rel

from sweeps import cell, made_results
from tlprune.experiments.page.findings import (
    ablation_lines,
    accuracy_rows,
    cost_rows,
    leader,
    shown_group,
    verdict,
    winning_rows,
)
from tlprune.experiments.results import Group
from tlprune.experiments.statistics import Estimate


@pytest.fixture
def results():
    return made_results()


def test_differences_are_those_of_a_paired_t_test(results):
    rows = {row.group: row for row in accuracy_rows(results, "digits", "finetune")}
    assert len(rows) == 1 + 3 * 3 + 2 + 3 * 2 + 2
    for group, row in rows.items():
        own = [one.scores["finetune"].test for one in results.of(group)]
        for other, found in ((Group("digits", "none"), row.to_none), (_random(group), row.to_random)):
            if found is None:
                assert group.method == "none" or (group.method == "random" and other.method == "random")
                continue
            theirs = [one.scores["finetune"].test for one in results.of(other)]
            interval = ttest_rel(own, theirs).confidence_interval(0.95)
            assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def _random(group):
    return Group(group.target, "random", group.ratio, group.match_budget)


def test_verdicts():
    assert verdict(Estimate(1, 0.9, 3)) == "better"
    assert verdict(Estimate(-1, 0.9, 3)) == "worse"
    assert verdict(Estimate(1, 1.1, 3)) == "unclear"
    assert verdict(Estimate(9, float("nan"), 1)) == verdict(Estimate(9, float("nan"), 1), equal=False) == "one seed"
    assert verdict(Estimate(9, 30, 2)) == verdict(Estimate(9, 0.1, 2)) == "two seeds"
    assert verdict(Estimate(1, 0.9, 3), equal=False) == verdict(Estimate(-1, 0.9, 3), equal=False) == "unequal"
    assert verdict(Estimate(1, 1.1, 3), equal=False) == "unclear"


def test_more_than_one_percent_more_images_or_steps_are_unequal(results):
    group = Group("digits", "label_mapping", 0.5)
    row = next(row for row in accuracy_rows(results, "digits", "probe") if row.group == group)
    assert row.equal
    for name, value, equal in (("images_kept", 2020, True), ("images_kept", 2021, False), ("steps", 103, False)):
        results.cells = [
            replace(
                one,
                **(
                    {"images_kept": 2000, "steps": 100}
                    | ({name: value} if replace(one.group, target="digits") == group else {})
                ),
            )
            for one in results.cells
        ]
        row = next(row for row in accuracy_rows(results, "digits", "probe") if row.group == group)
        assert row.equal is equal, (name, value)
        assert results.equally_large(replace(group, target=""), Group("", "random", 0.5)) is equal


def test_winning_subsets_of_every_method_and_place(results):
    found = dict(winning_rows(results))
    assert list(found) == ["label_mapping", "random", "reverse"]
    assert set(found["label_mapping"]) == {(t, m) for t in ("digits", "photos") for m in ("probe", "finetune")}
    assert found["label_mapping"]["digits", "probe"].ratio == 0.5
    assert found["reverse"]["digits", "probe"].ratio is None


def test_costs_pay_for_all(results):
    rows = {row.group: row for row in cost_rows(results, "digits")}
    row = rows[Group("digits", "label_mapping", 0.5)]
    assert (row.surrogate, row.selection, row.pretraining) == (5.0, 0.5, 50.5)
    assert row.total == 56
    assert row.saving == pytest.approx(1 - 56 / 101)
    assert row.reused == pytest.approx(1 - 51 / 101)
    assert not rows[Group("digits", "random", 0.5)].uses_surrogate
    assert rows[Group("digits", "none")].saving is None


def test_ablations_are_lines_over_their_levels(results):
    lines = ablation_lines(results, "digits", "probe")
    assert list(lines) == ["surrogate width", "schedule"]
    assert {name: [level for level, _ in line] for name, line in lines["surrogate width"].items()} == {
        "25% pruned": ["4", "8", "16"],
        "50% pruned": ["4", "8", "16"],
    }
    assert [level for level, _ in lines["schedule"]["50% pruned"]] == ["cosine", "constant"]
    assert "schedule" not in ablation_lines(results, "photos", "probe")
    assert ablation_lines(made_results(ablations=False), "digits", "probe") == {}


def test_the_leader_has_the_largest_winning_subset_and_is_no_control(results):
    method, winning = leader(results, "digits", "probe")
    assert (method, winning.ratio) == ("label_mapping", 0.5)
    results.cells = [one for one in results.cells if one.method in ("none", "reverse", "random")]
    assert leader(results, "digits", "probe") is None


def test_pictures_are_of_a_winning_subset_or_of_the_middle(results):
    assert shown_group(results, "digits") is None  # no Selection is there
    results.cells = [
        cell(
            "digits",
            one.method,
            one.ratio,
            one.seed,
            one.match_budget,
            change=-20 if one.method == "label_mapping" else None,
        )
        for one in results.cells
        if one.target == "digits" and "@" not in one.method
    ]
    for one in results.cells:
        object.__setattr__(one, "selection", "a" if one.method in ("label_mapping", "random") else None)
    assert shown_group(results, "digits") == Group("digits", "label_mapping", 0.5)
    results.cells = [one for one in results.cells if one.ratio != 0.5]
    assert leader(results, "digits", "probe") is None
    assert shown_group(results, "digits") == Group("digits", "label_mapping", 0.75)


def test_modes_that_a_cell_lacks_are_left_out(results):
    results.modes.append("knn")
    results.cells.append(cell("digits", "none", 0.0, 9, modes=("knn",)))
    assert [row.group.method for row in accuracy_rows(results, "digits", "knn")] == ["none"]
    assert ("digits", "knn") not in dict(winning_rows(results))["label_mapping"]
    assert len(results.accuracies(Group("digits", "none"), "probe")) == 3
