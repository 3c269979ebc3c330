import re
from dataclasses import replace

import pytest

from sweeps import made_results
from tlprune.experiments.claims import pooled_winning, winning
from tlprune.experiments.page.conclusions import conclusion, headlines, pooled_headlines
from tlprune.experiments.page.rendering import render_page
from tlprune.experiments.results import Group
from tlprune.experiments.statistics import Estimate
from tlprune.experiments.verdicts import claim_text
from tlprune.experiments.wording import difference, share


@pytest.fixture
def results():
    return made_results(targets=("digits",))


def test_it_says_what_wins_what_it_does_and_what_it_saves(results):
    said = conclusion(results, "digits")
    held = claim_text(winning(results, "digits", "label_mapping", "probe").claim)
    text = "LM with 50% of the classes pruned is at most 1 point below no pruning"
    assert said.startswith(f"By linear probe, over 3 seeds: {text} ({held}).")
    assert "It saves 45% of the time" in said
    assert "Against random pruning on test images: LM clearly better in 4 of 4." in said
    cards = headlines(results, "digits")
    assert [one.value for one in cards] == ["50%", "45%"]
    assert held in cards[0].caption


def test_it_says_what_is_open_and_what_would_decide():
    results = made_results(targets=("digits",), test_images=400)
    results.cells = [one for one in results.cells if one.ratio < 0.7]
    [card] = headlines(results, "digits")
    undecided = winning(results, "digits", "label_mapping", "probe").open
    assert card.value == "open"
    assert undecided.needs.endswith("test images would decide")
    assert undecided.needs in card.caption
    said = conclusion(results, "digits")
    assert f"at {share(undecided.ratio)} pruned it is at {claim_text(undecided)}; {undecided.needs}." in said


def test_more_images_on_one_side_are_not_called_better(results):
    for one in results.cells:
        if one.method == "random":
            object.__setattr__(one, "images_kept", one.images_kept - 1)
    said = conclusion(results, "digits")
    assert "LM not comparable in 4, with more images or steps on one side, of 4" in said


def test_it_says_when_nothing_wins(results):
    for one in results.cells:
        if one.method == "label_mapping":
            object.__setattr__(one, "scores", {mode: type(s)(1.0, 1.0, 0.0) for mode, s in one.scores.items()})
    said = conclusion(results, "digits")
    assert "LM is more than 1 point below no pruning at 25% pruned" in said
    assert "LM clearly worse in 4 of 4" in said
    assert "By full finetuning, no method is shown to stay within 1 point of no pruning." in said
    [one] = headlines(results, "digits")
    assert one.value == "none"


@pytest.mark.parametrize(("seeds", "why"), [(1, "one seed has no interval"), (2, "an interval of two seeds reaches")])
def test_few_seeds_claim_nothing(seeds, why):
    results = made_results(targets=("digits",), seeds=seeds)
    said = conclusion(results, "digits")
    assert f"over {seeds} {'seed' if seeds == 1 else 'seeds'}: {why}" in said
    assert "run 3 seeds or more" in said
    assert "at most" not in said
    assert f"LM higher on average in 4 of 4; {'one seed' if seeds == 1 else 'two seeds'} cannot decide." in said
    assert "clearly" not in said
    [card] = headlines(results, "digits")
    assert card.value == "open"
    page = render_page(results, [], [], "t")
    for table in page.split("<table>")[1:]:
        assert not re.search(r'class="word">(better|worse)', table)


def test_over_targets_of_one_seed_the_interval_is_said_to_leave_out_seeds():
    results = made_results(targets=tuple(f"t{number}" for number in range(6)), seeds=1, ablations=False)
    assert all("6 targets of one seed" in card.caption for card in pooled_headlines(results)[:2])
    page = render_page(results, [], [], "t")
    assert "of a bootstrap over targets, which leaves out what differs from seed to seed" in page
    assert "targets and seeds" not in page.partition('id="accuracy"')[0]
    assert "beyond what seeds vary" not in page


def test_a_single_comparison_of_two_seeds_is_not_called_clear():
    results = made_results(targets=("digits",), seeds=2)
    results.cells = [one for one in results.cells if one.ratio in (0, 0.25) and one.match_budget == "epochs"]
    text = "Against random pruning on test images: LM higher on average in 1 of 1; two seeds cannot decide."
    assert text in conclusion(results, "digits")


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


def test_the_cards_over_all_targets():
    """LM holds up to half of the classes, gains most over random pruning at three quarters, and saves 45 %."""
    names = tuple(f"{place}-digits" for place in range(6))
    results = made_results(targets=names)
    held = claim_text(pooled_winning(results, "label_mapping", "probe").claim)
    cards = pooled_headlines(results)
    gains = [
        results.pooled(Group("", "label_mapping", r, b), Group("", "random", r, b), "probe")
        for r, b in ((0.25, "epochs"), (0.5, "epochs"), (0.75, "epochs"), (0.5, "steps"))
    ]
    assert [one.value for one in cards] == ["50%", f"{max(gains, key=lambda one: one.low).mean:+.1f}", "45%"]
    assert held in cards[0].caption
    assert "the best of 4 comparisons" in cards[1].caption
    assert "clearly better" in cards[1].caption
    assert "on average over 6 targets" in cards[2].caption
    [few] = pooled_headlines(made_results(targets=names[:5]))
    assert few.value == "open"
    assert few.caption.startswith("5 targets are too few for a conclusion over targets; run 6 or more.")


def test_over_all_targets_it_says_what_is_open_or_that_nothing_is_left():
    names = tuple(f"{place}-digits" for place in range(6))
    results = made_results(targets=names, ablations=False)
    for place, one in enumerate(results.cells):
        if one.method == "label_mapping":
            change = 8.0 if int(one.target[0]) < 3 else -9.0
            moved = {mode: replace(score, test=score.test + change) for mode, score in one.scores.items()}
            results.cells[place] = replace(one, scores=moved)
    [card, *_] = pooled_headlines(results)
    assert card.value == "open"
    assert pooled_winning(results, "label_mapping", "probe").open.needs in card.caption
    low = {mode: type(score)(1.0, 1.0, 0.0) for mode, score in results.cells[0].scores.items()}
    results.cells = [replace(one, scores=low) if one.method == "label_mapping" else one for one in results.cells]
    assert pooled_headlines(results)[0].value == "none"


def test_wording():
    assert difference(Estimate(2.44, 2.1, 3)) == "+2.4 [+0.3, +4.5]"
    assert difference(Estimate(-1.0, float("nan"), 1)) == "-1.0"
    assert difference(None) == "-"
    assert [share(value) for value in (None, 0.456, -0.001, -0.2)] == ["-", "46%", "0%", "-20%"]
