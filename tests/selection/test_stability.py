"""The bootstrap of votes, held against a slow one over single voters."""

import numpy as np
import pytest
import torch

from tlprune import Selection
from tlprune.selection.stability import stability


def selection_of(assignments, units, scores=None, **options):
    votes = torch.bincount(assignments, minlength=units).double()
    scores = torch.zeros(units) if scores is None else scores
    by_score = scores.argsort(descending=True, stable=True)
    order = by_score[votes[by_score].argsort(descending=True, stable=True)]
    names = tuple(map(str, range(units)))
    return Selection("label_mapping", names, order, votes, scores, torch.arange(units), assignments, **options)


def test_it_is_that_of_drawing_voters_one_by_one():
    rng = np.random.default_rng(3)
    voters = rng.choice(12, size=60, p=np.arange(12, 0, -1) / 78)
    scores = rng.random(12)
    selection = selection_of(torch.from_numpy(voters), 12, torch.from_numpy(scores))
    kept = set(selection.ranking[:5].tolist())
    draws, again = 4000, np.zeros(12)
    for _ in range(draws):
        counts = np.bincount(rng.choice(voters, size=len(voters)), minlength=12)
        again[sorted(range(12), key=lambda unit: (-counts[unit], -scores[unit]))[:5]] += 1
    found = stability(selection, 5)
    assert found.kept_again == pytest.approx(np.mean([again[unit] / draws for unit in kept]), abs=0.03)
    assert found == stability(selection, 5)


def test_clear_votes_are_certain_and_equal_votes_are_not():
    clear = stability(selection_of(torch.tensor([0] * 500 + [1] * 400 + [2] * 3), 5), 2)
    assert (clear.kept_again, clear.certain) == (1.0, 2)
    equal = stability(selection_of(torch.arange(40).repeat(2), 40), 20)
    assert equal.kept_again < 0.9
    assert equal.certain < 20


def test_what_is_no_count_of_votes_has_none():
    assert stability(selection_of(torch.empty(0, dtype=torch.int64), 4), 2) is None
    assert stability(selection_of(torch.tensor([0, 1]), 4), 4) is None
    weighted = selection_of(torch.tensor([0, 0, 1]), 3)
    object.__setattr__(weighted, "votes", torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64))
    assert stability(weighted, 1) is None
