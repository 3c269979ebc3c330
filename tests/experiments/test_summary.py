"""What a comparison of one method with its controls comes to, on made-up cells."""

import json
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from tlprune.experiments.demo_report import print_summary, write_summary
from tlprune.experiments.results import Cell, Group, MethodInfo, Results, Score
from tlprune.experiments.summary import Summary
from tlprune.selection.selection import Selection

FULL, LM = Group("digits", "none"), Group("digits", "label_mapping", 0.7)
LM_STEPS, LM_HALF = replace(LM, match_budget="steps"), replace(LM, ratio=0.5)
RANDOM = replace(LM, method="random")
METHODS = {
    "none": MethodInfo("no pruning", uses_surrogate=False),
    "label_mapping": MethodInfo("LM"),
    "random": MethodInfo("random", uses_surrogate=False),
}


def run(group, seed, val, test, seconds=10.0):
    paid = group.method == "label_mapping"
    return Cell(
        **vars(group),
        seed=seed,
        units_total=10,
        units_kept=3,
        images_total=100,
        images_kept=60,
        surrogate_seconds=2.0 if paid else 0.0,
        selection_seconds=0.5 if paid else 0.0,
        pretraining_seconds=seconds,
        source_accuracy=90.0,
        scores={"probe": Score(val, test, 1.0)},
        selection="selections/lm.safetensors" if paid else None,
    )


@pytest.fixture
def results():
    cells = []
    for seed in (2, 0, 1):  # cells end in any order
        cells += [
            run(FULL, seed, 90, 90 + seed),
            run(LM_HALF, seed, 91, 91 + seed, 5),
            run(LM, seed, 90, 90.5 + seed, 3),
            run(RANDOM, seed, 85, 80 + seed / 10, 3),
            run(LM_STEPS, seed, 95, 95 + seed),
        ]
    recipes = {"surrogate": {"epochs": 1}, "pretrain": {"epochs": 2}, "transfers": {"probe": {"epochs": 3}}}
    provenance = {"seconds": 12.0, "reused": 4}
    return Results(
        "demo",
        {},
        {"digits": {"split": "made up", "test": 1_000_000}},
        dict(METHODS),
        ["probe"],
        recipes,
        provenance,
        cells=cells,
    )


@pytest.fixture
def selection():
    of_sample = torch.arange(4).repeat_interleave(20)
    votes = torch.tensor([1.0, 0.0, 4.0, 2.0])
    return Selection(
        "label_mapping", ("a", "b", "c", "d"), torch.tensor([2, 3, 0, 1]), votes, votes, of_sample, of_sample
    )


def changed(results, group, score):
    """The same results, with other scores of a group: ``score(seed)``."""
    cells = [replace(one, scores={"probe": score(one.seed)}) if one.group == group else one for one in results.cells]
    return Summary(replace(results, cells=cells))


def test_saving_pays_for_surrogate_and_selection(results):
    summary = Summary(results)
    assert summary.saving(FULL) == 0
    assert summary.saving(LM) == pytest.approx(1 - (2 + 0.5 + 3) / 10)
    assert summary.saving(LM, reused=True) == pytest.approx(1 - (0.5 + 3) / 10)
    assert summary.saving(RANDOM) == pytest.approx(0.7)
    assert summary.saving(LM_STEPS) < 0


def test_the_winning_subset_is_what_intervals_on_test_images_support(results):
    assert Summary(results).winning("probe").ratio == 0.7
    better_on_validation_alone = changed(results, LM, lambda seed: Score(99.0, 85.0 + seed / 10, 1.0))
    assert better_on_validation_alone.winning("probe").ratio == 0.5
    assert better_on_validation_alone.shown == LM_HALF
    none = changed(results, LM, lambda _: Score(99.0, 80.0, 1.0)).results
    none = changed(none, LM_HALF, lambda _: Score(99.0, 80.0, 1.0))
    assert none.winning("probe").ratio is None
    assert none.shown == LM  # of two ratios the upper is the middle


def test_differences_are_better_worse_or_unclear(results):
    def verdicts(summary):
        return {(one.group, one.against): one.verdict for one in summary.differences()}

    summary = Summary(results)
    assert verdicts(summary) == {
        (LM_HALF, "none"): "better",
        (LM, "random"): "better",
        (LM, "none"): "better",
        (LM_STEPS, "none"): "better",
    }
    assert summary.against_random() == "Of 1 comparisons, LM clearly beats random pruning in 1, is clearly worse in 0."
    unclear = changed(results, LM, lambda seed: Score(90, 80.05 - seed / 10, 1.0))
    assert verdicts(unclear)[LM, "random"] == "unclear"
    assert verdicts(unclear)[LM, "none"] == "worse"
    assert unclear.against_random() == "LM does not clearly beat random pruning in any of 1 comparisons here."


def test_one_seed_is_never_clear(results):
    results.cells = [one for one in results.cells if one.seed == 0]
    assert {one.verdict for one in Summary(results).differences()} == {"one seed"}


def test_groups_come_by_ratio_and_those_of_equal_steps_last(results):
    assert Summary(results).groups == [FULL, LM_HALF, LM, RANDOM, LM_STEPS]


def test_the_json_has_what_the_docs_say(results):
    summary = Summary(results).as_json()
    assert summary["winning_ratio"] == {"probe": 0.7}
    assert (summary["margin"], [one["standing"] for one in summary["claims"]["probe"]]) == (1.0, ["holds", "holds"])
    assert (summary["seconds"], summary["reused"], summary["split"]) == (12.0, 4, "made up")
    assert len(summary["runs"]) == 15
    assert summary["runs"][0]["arm"] == {"method": "none", "ratio": 0.0, "equal": "epochs"}
    assert [run["seed"] for run in summary["runs"][:3]] == [0, 1, 2]
    arm = next(row for row in summary["arms"] if row["method"] == "label_mapping" and row["ratio"] == 0.5)
    assert arm["probe"]["test_accuracy"] == 92
    assert arm["saving_surrogate_reused"] == pytest.approx(0.45)
    assert summary["recipes"] == {"surrogate": {"epochs": 1}, "source": {"epochs": 2}, "probe": {"epochs": 3}}
    assert json.loads(json.dumps(summary)) == summary
    results.cells = [one for one in results.cells if one.seed == 0]
    assert Summary(results).as_json()["differences"][0]["interval_95"] is None


def printed(results, selection, folder, width):
    console = Console(width=width, record=True, force_terminal=False)
    print_summary(Summary(results), selection, folder, console)
    return console.export_text()


def test_files_and_table(results, selection, tmp_path):
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    write_summary(Summary(results), selection, lambda _: picture, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "accuracy.png",
        "cost.png",
        "summary.json",
        "table.md",
        "units.png",
        "votes.png",
    ]
    text = printed(results, selection, tmp_path, 80)
    table = [line for line in text.splitlines() if re.match(r" *(no pruning|LM|random)( =)? +\d+%", line)]
    assert len(table) == 5
    assert "…" not in text, "the table is cut at 80 columns"
    assert "LM at 70% pruned saves 65%" in text
    assert "It took 12 s; 4 of 15 runs were finished before." in text
    said = " ".join(text.split())
    assert "By linear probe: LM with 70% of the classes pruned is at most 1 point below no pruning (+0.5 [" in said
    assert "docs/results.md" in said
    assert "two seeds decide nothing" not in said
    assert f"tlprune report {tmp_path}" in text


def test_feature_mapping_is_called_by_its_name(results, selection, tmp_path):
    results.methods = {**METHODS, "feature_mapping": MethodInfo("FM", "cluster")}
    del results.methods["label_mapping"]
    results.cells = [
        replace(one, method="feature_mapping", source_accuracy=None) if one.method == "label_mapping" else one
        for one in results.cells
    ]
    summary = Summary(results)
    assert (summary.label, summary.units()) == ("FM", "clusters")
    assert summary.shown == replace(LM, method="feature_mapping")
    text = printed(results, selection, tmp_path, 100)
    assert "FM minus ..." in text
    assert "FM with 70% of the clusters pruned" in " ".join(text.split())
    assert "configs/ssl/drawn_simclr.yaml" in text
    assert "LM" not in text
    found = summary.as_json()
    assert found["method"] == "feature_mapping"
    assert {one["against"] for one in found["differences"]} == {"none", "random"}
