import json
import re

import pytest
import torch
from rich.console import Console

from tlprune.experiments.comparison import Arm, Comparison, Run
from tlprune.experiments.report import print_comparison, write_comparison
from tlprune.experiments.results import Score
from tlprune.experiments.trial import Pretraining, Transfer
from tlprune.selection.selection import Selection

FULL, LM, LM_STEPS = Arm("none", 0.0), Arm("label_mapping", 0.7), Arm("label_mapping", 0.7, "steps")
LM_HALF, RANDOM = Arm("label_mapping", 0.5), Arm("random", 0.7)


def run(arm, seed, val, test, seconds=10.0):
    surrogate, selection = (2.0, 0.5) if arm.votes else (0.0, 0.0)
    return Run(arm, seed, 3, 60, seconds, 90.0, {"probe": Score(val, test, 1.0)}, surrogate, selection)


@pytest.fixture
def comparison():
    found = Comparison("digits", "made up", Pretraining("a", 1), Pretraining("b", 1), [Transfer("probe", 1, 0.1)])
    for seed in (1, 0):  # cells end in any order
        found.runs += [
            run(FULL, seed, 90, 90 + seed),
            run(LM_HALF, seed, 91, 91 + seed, 5),
            run(LM, seed, 90, 90.5 + seed, 3),
            run(RANDOM, seed, 85, 80 + seed / 10, 3),
            run(LM_STEPS, seed, 95, 95 + seed),
        ]
    return found


@pytest.fixture
def selection():
    of_sample = torch.arange(4).repeat_interleave(20)
    votes = torch.tensor([1.0, 0.0, 4.0, 2.0])
    return Selection(
        "label_mapping", ("a", "b", "c", "d"), torch.tensor([2, 3, 0, 1]), votes, votes, of_sample, of_sample
    )


def test_saving_pays_for_surrogate_and_selection(comparison):
    assert comparison.saving(FULL) == 0
    assert comparison.saving(LM) == pytest.approx(1 - (2 + 0.5 + 3) / 10)
    assert comparison.saving(LM, reused=True) == pytest.approx(1 - (0.5 + 3) / 10)
    assert comparison.saving(RANDOM) == pytest.approx(0.7)
    assert comparison.saving(LM_STEPS) < 0


def test_winner_is_chosen_on_validation_at_equal_epochs(comparison):
    assert comparison.winning_ratio("probe") == 0.7
    for one in comparison.runs:
        if one.arm == LM:
            one.scores["probe"] = Score(89.9, 99.0, 1.0)  # better on test, below on validation
    assert comparison.winning_ratio("probe") == 0.5
    assert comparison.shown_arm == LM_HALF


def test_differences_are_better_worse_or_unclear(comparison):
    def verdicts():
        return {(one.arm.key, one.other.method): one.verdict for one in comparison.differences()}

    assert verdicts() == {
        ("label_mapping-0.5-epochs", "none"): "better",
        ("label_mapping-0.7-epochs", "random"): "better",
        ("label_mapping-0.7-epochs", "none"): "better",
        ("label_mapping-0.7-steps", "none"): "better",
    }
    assert comparison.against_random().startswith("Of 1 comparisons, LM clearly beats random pruning in 1")
    for one in comparison.runs:
        if one.arm == LM:
            one.scores["probe"] = Score(90, 80.05 - one.seed / 10, 1.0)
    assert verdicts()["label_mapping-0.7-epochs", "random"] == "unclear"
    assert verdicts()["label_mapping-0.7-epochs", "none"] == "worse"
    assert comparison.against_random() == "LM does not clearly beat random pruning in any of 1 comparisons here."


def test_one_seed_is_never_clear(comparison):
    comparison.runs = [one for one in comparison.runs if one.seed == 0]
    assert {one.verdict for one in comparison.differences()} == {"unclear"}


def test_files_and_table(comparison, selection, tmp_path):
    comparison.seconds = 12.0
    write_comparison(comparison, selection, lambda unit: torch.full((3, 8, 8), unit * 50, dtype=torch.uint8), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "accuracy.png",
        "cost.png",
        "summary.json",
        "table.md",
        "units.png",
        "votes.png",
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["winning_ratio"] == {"probe": 0.7}
    assert len(summary["runs"]) == 10
    arm = next(row for row in summary["arms"] if row["method"] == "label_mapping" and row["ratio"] == 0.5)
    assert arm["probe"]["test_accuracy"] == 91.5
    console = Console(width=80, record=True, force_terminal=False)
    print_comparison(comparison, selection, tmp_path, console)
    text = console.export_text()
    table = [line for line in text.splitlines() if re.match(r" *(no pruning|LM|random)( =)? +\d+%", line)]
    assert len(table) == 5
    assert "…" not in text, "the table is cut at 80 columns"


def test_feature_mapping_is_called_by_its_name(comparison, selection, tmp_path):
    for one in comparison.runs:
        if one.arm.method == "label_mapping":
            one.arm = Arm("feature_mapping", one.arm.ratio, one.arm.equal)
            one.source_accuracy = None
    assert (comparison.label, comparison.units) == ("FM", "clusters")
    assert comparison.shown_arm == Arm("feature_mapping", 0.7)
    assert comparison.winning_ratio("probe") == 0.7
    console = Console(record=True, width=100)
    print_comparison(comparison, selection, tmp_path, console)
    said = console.export_text()
    assert "FM minus ..." in said
    assert "clusters and 60 images" in said
    assert "configs/ssl/drawn_simclr.yaml" in said
    assert "LM" not in said
    summary = comparison.as_json()
    assert summary["method"] == "feature_mapping"
    assert {one["against"] for one in summary["differences"]} == {"none", "random"}
