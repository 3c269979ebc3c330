import math

import pytest
import torch

from tlprune.errors import InputError
from tlprune.selection.advisor import Forecast, advise, vote_spread, votes_for_a_handful
from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection


def selection(votes):
    counts = torch.tensor(votes)
    return Selection(
        method="label_mapping",
        unit_names=tuple(f"unit{unit}" for unit in range(len(votes))),
        ranking=rank_units(counts.double(), torch.zeros(len(votes))),
        votes=counts,
        scores=torch.zeros(len(votes)),
        unit_of_sample=torch.arange(len(votes)).repeat_interleave(10),
        assignments=torch.arange(len(votes)).repeat_interleave(counts),
    )


@pytest.mark.parametrize(
    ("votes", "elbow", "suggested"),
    [
        # an average unit has 20 votes: three have more; 99 of a hundred votes are in the first four
        ([50, 25, 21, 3, 1], 3, 4),
        # nothing stands out: all units are wanted alike
        ([10, 10, 10, 10], 1, 4),
        ([0, 0, 7, 0], 1, 1),
        ([1000] + [1] * 5, 1, 1),
    ],
)
def test_elbow_and_suggestion_by_hand(votes, elbow, suggested):
    found = advise(selection(votes))
    assert (found.elbow, found.suggested) == (elbow, suggested)


def test_all_units_alike_are_all_suggested_whatever_rounding_does():
    assert advise(selection([7] * 97)).suggested == 97


def test_a_selection_without_votes_is_refused():
    with pytest.raises(InputError, match="'label_mapping' has no votes"):
        advise(selection([0, 0, 0]))


def test_a_reversed_order_is_refused():
    from dataclasses import replace

    with pytest.raises(InputError, match="ask the order that it reverses"):
        advise(replace(selection([3, 1]), method="reverse"))


def test_saving_equals_the_formula():
    forecast = Forecast(surrogate_seconds=30, selection_seconds=20, full_seconds=1000)
    assert forecast.seconds(0.2) == pytest.approx(250)
    assert forecast.saving(0.2) == pytest.approx(0.8 - 50 / 1000)
    assert forecast.saving(0.2, reused=True) == pytest.approx(0.8 - 20 / 1000)
    assert forecast.saving(1.0) == pytest.approx(-0.05)


@pytest.mark.parametrize("seconds", [(-1, 0, 10), (0, -1, 10), (0, 0, 0), (0, 0, float("nan"))])
def test_what_is_no_time_is_refused(seconds):
    with pytest.raises(InputError, match="seconds must not be negative"):
        Forecast(*seconds)


def test_the_spread_of_votes_by_hand():
    assert vote_spread(selection([50, 50, 0, 0])) == "100 target images vote for 2 of 4 classes, as evenly as for 2.0"
    shares = [0.5, 0.25, 0.25]
    effective = math.exp(-sum(share * math.log(share) for share in shares))
    assert vote_spread(selection([20, 10, 10, 0])).endswith(f"3 of 4 classes, as evenly as for {effective:.1f}")


@pytest.mark.parametrize(
    ("votes", "few"),
    [
        ([100, 90] + [0] * 98, True),
        ([25] * 4 + [0] * 21, True),
        ([20] * 5 + [0] * 95, False),
        ([45] * 40 + [0] * 960, False),  # forty breeds of a thousand classes are what such a target should ask for
        ([40, 30, 29] + [0] * 97, False),  # a few voters may agree by chance
        ([25] * 4 + [0] * 20, False),  # of few units a handful is a large part
    ],
)
def test_many_images_that_vote_for_a_handful_of_units(votes, few):
    assert votes_for_a_handful(selection(votes)) is few
