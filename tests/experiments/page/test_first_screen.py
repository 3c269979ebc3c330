"""What a page about a Selection opens with."""

import pytest
import torch

from tlprune import Selection
from tlprune.data.datasets import TensorImages
from tlprune.experiments.page.evidence import gather
from tlprune.experiments.page.first_screen import first_screen, percentage
from tlprune.selection.ranking import Budget


def selection_of(counts, per_unit=10, **options):
    """A unit for each count, with so many votes."""
    counts = torch.tensor(counts)
    names = tuple(f"unit{number}" for number in range(len(counts))) if "unit_kind" not in options else ()
    votes = counts.double()
    order = votes.argsort(descending=True, stable=True)
    of_sample = torch.arange(len(counts)).repeat_interleave(per_unit)
    assignments = torch.arange(len(counts)).repeat_interleave(counts)
    method = options.pop("method", "label_mapping")
    return Selection(method, names, order, votes, votes * 0, of_sample, assignments, **options)


def screen_of(selection, budget, source=None):
    found = first_screen(gather("t", selection, budget, "as asked", source, []))
    return found, {question: " ".join(texts) for question, texts in found.answers}


def test_it_counts_what_is_kept_and_names_it():
    found, said = screen_of(selection_of([6, 3, 1, 0]), Budget(units=2))
    assert [(one.value, one.caption) for one in found.cards] == [
        ("50 %", "of the images are kept: 20 of 40"),
        ("2 of 4", "classes are kept"),
        ("90 %", "of the votes go to what is kept"),
        ("50 %", "less pretraining time at equal epochs, before the cost of selecting"),
    ]
    assert said["What does it keep?"] == (
        "2 of 4 classes are kept (as asked): 20 of 40 images of the source, 50 %. Ranked highest: unit0 and unit1. "
        "Closest to being kept, but dropped: unit2 and unit3."
    )
    assert "10 training images voted for 3 of 4 classes" in said["Why this part?"]
    assert "entropy 1.30 of at most 2.00 bits" in said["Why this part?"]
    assert "takes 50 % of the steps" in said["What does it save?"]
    assert "it says nothing of accuracy" in said["How sure is it?"]
    assert found.warnings == []


def test_an_exact_number_of_images_is_what_is_counted():
    found, said = screen_of(selection_of([6, 3, 1, 0]), Budget(exactly=15))
    assert found.cards[0].caption == "of the images are kept: 15 of 40"
    assert "Of the last of them only some images are kept" in said["What does it keep?"]


def test_many_names_are_cut():
    said = screen_of(selection_of([1] * 30), Budget(units=20))[1]["What does it keep?"]
    assert "unit6, unit7 and 12 more." in said
    assert "unit26, unit27 and 2 more." in said


def test_single_images_are_counted_by_class():
    selection = selection_of([0] * 8, per_unit=1, unit_kind="sample", method="random")
    images = TensorImages(torch.zeros(8, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1] * 4), ["ant", "bee"])
    found, said = screen_of(selection, Budget(units=3), images)
    assert "3 of 8 images of the source are kept, 37.5 % (as asked)." in said["What does it keep?"]
    assert "Their most frequent classes are ant (66.7 %), bee (33.3 %)." in said["What does it keep?"]
    assert [one.value for one in found.cards] == ["37.5 %", "62.5 %"]
    assert "No image of a target voted for this order." in said["Why this part?"]


def test_images_that_are_kept_for_target_images_say_for_how_many():
    selection = selection_of([1, 1, 0, 0], per_unit=1, unit_kind="sample", asked_by=torch.tensor([0, 1, 0, 1]))
    found, said = screen_of(selection, Budget(units=3))
    assert ("2 of 2", "target images have a kept image of their own") in [
        (one.value, one.caption) for one in found.cards
    ]
    assert "2 images of the target took the 3 kept images, 1.5 each on average." in said["Why this part?"]


def test_several_targets_each_have_their_share():
    rows = torch.tensor([[4.0, 0, 0], [0, 1, 1]])
    options = {"target_votes": rows, "covers_each_target": True, "metadata": {"targets": ["/data/pets", "cars"]}}
    found, said = screen_of(selection_of([4, 1, 1], **options), Budget(units=2))
    assert "shares of the votes of each target: 100 % of pets, 50 % of cars." in said["Why this part?"]
    assert ("50 %", "of the votes of the least covered target go to what is kept") in [
        (one.value, one.caption) for one in found.cards
    ]


def test_what_speaks_against_it_is_said():
    found, _ = screen_of(selection_of([198, 2] + [0] * 28), Budget(units=5))
    assert found.warnings[0].startswith("Few classes take nearly all votes: the source has hardly a relative")
    assert found.warnings[1] == "Only 2 of the 5 kept classes have votes; the others are ranked by score alone."
    found, _ = screen_of(selection_of([0, 3], method="reverse"), Budget(units=1))
    assert "This is a control: it keeps first what the votes would keep last." in found.warnings


def test_class_names_without_images_are_not_counted():
    selection = selection_of([2, 1])
    bare = Selection(
        "label_mapping",
        ("a", "b"),
        selection.ranking,
        selection.votes,
        selection.scores,
        torch.empty(0),
        torch.tensor([0, 0, 1]),
    )
    found, said = screen_of(bare, Budget(units=1))
    assert [one.value for one in found.cards] == ["1 of 2", "66.7 %"]
    assert "only class names are known, so images are not counted" in said["What does it keep?"]


@pytest.mark.parametrize(("part", "text"), [(0, "0 %"), (1, "0.1 %"), (999, "99.9 %"), (1000, "100 %"), (250, "25 %")])
def test_percentages(part, text):
    assert percentage(part, 1000) == text
