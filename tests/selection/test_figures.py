"""Figures of a Selection."""

import pytest
import torch

from tlprune import Selection
from tlprune.selection.figures import votes_figure


@pytest.mark.parametrize("units", [1, 2, 4, 7, 100, 1000])
def test_ranks_on_the_axis_are_whole_numbers(units):
    votes = torch.arange(units, 0, -1).double()
    names = tuple(f"class{number}" for number in range(units))
    each = torch.arange(units)
    voted = each.repeat_interleave(votes.long())
    selection = Selection("label_mapping", names, each, votes, torch.zeros_like(votes), each.int(), voted)
    figure = votes_figure(selection, max(1, units // 2), "title")
    figure.canvas.draw()
    assert all(tick == round(tick) for tick in figure.axes[0].get_xticks())
