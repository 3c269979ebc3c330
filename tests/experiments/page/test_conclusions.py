import pytest

from sweeps import made_results
from tlprune.experiments.page.conclusions import conclusion, headlines
from tlprune.experiments.results import Group
from tlprune.experiments.statistics import Estimate
from tlprune.experiments.wording import difference, share


@pytest.fixture
def results():
    return made_results(targets=("digits",))


def test_it_says_what_wins_what_it_does_and_what_it_saves(results):
    said = conclusion(results, "digits")
    held = results.difference(Group("digits", "label_mapping", 0.5), Group("digits", "none"), "probe")
    assert said.startswith("By linear probe, over 3 seeds: LM keeps validation accuracy with 50% of the classes pruned")
    assert f"on test images that is {difference(held)} points, clearly better than no pruning" in said
    assert "It saves 45% of the time" in said
    assert "The others' winning subsets: random none, reverse none." in said
    assert "Against random pruning on test images: LM clearly better in 4 of 4." in said
    values = [one.value for one in headlines(results, "digits")]
    assert values == ["50%", f"{held.mean:+.1f}", "45%"]


def test_it_says_when_nothing_wins(results):
    for one in results.cells:
        if one.method == "label_mapping":
            object.__setattr__(one, "scores", {mode: type(s)(1.0, 1.0, 0.0) for mode, s in one.scores.items()})
    said = conclusion(results, "digits")
    assert "no method keeps validation accuracy at any ratio that was tried" in said
    assert "LM clearly worse in 4 of 4" in said
    assert "By full finetuning no method has a winning subset." in said
    [one] = headlines(results, "digits")
    assert one.value == "none"


def test_one_seed_is_called_unclear():
    said = conclusion(made_results(targets=("digits",), seeds=1), "digits")
    assert "over 1 seed:" in said
    assert "With one seed there are no intervals: nothing here is clear." in said
    assert "LM clearly different in none of 4" in said


def test_a_single_comparison_is_told_whole(results):
    results.cells = [one for one in results.cells if one.ratio in (0, 0.25) and one.match_budget == "epochs"]
    held = results.difference(Group("digits", "label_mapping", 0.25), Group("digits", "random", 0.25), "probe")
    assert f"Against random pruning on test images: LM better ({difference(held)} points)." in conclusion(
        results, "digits"
    )


def test_without_no_pruning_nothing_is_claimed(results):
    results.cells = [one for one in results.cells if one.method != "none"]
    assert conclusion(results, "digits").endswith("no loss or gain can be measured.")
    assert headlines(results, "digits") == []


def test_wording():
    assert difference(Estimate(2.44, 2.1, 3)) == "+2.4 [+0.3, +4.5]"
    assert difference(Estimate(-1.0, float("nan"), 1)) == "-1.0"
    assert difference(None) == "-"
    assert [share(value) for value in (None, 0.456, -0.001, -0.2)] == ["-", "46%", "0%", "-20%"]
