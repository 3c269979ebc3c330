"""Draws whose odds are votes over sizes."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tlprune import FeatureMapping, ImportanceResampling, InputError, RandomSelector, Selection
from tlprune.selection.importance_resampling import _stable_order, log_importance, resampled
from tlprune.selection.ranking import Budget
from tlprune.selection.selector import Selector


class Voted(Selector):
    """Votes that a test chooses; the rest is as in any selector."""

    method = "voted"
    needs = ()

    def __init__(self, votes):
        self.votes = torch.tensor(votes, dtype=torch.float64)

    def order(self, source, target, surrogate, cache):
        return Selection(
            method=self.method,
            unit_names=source.classes,
            ranking=self.votes.sort(descending=True, stable=True).indices,
            votes=self.votes,
            scores=self.votes,
            unit_of_sample=source.labels,
            assignments=torch.empty(0),
        )


@pytest.fixture
def source(points):
    """Units of 1, 2, 3 and 4 images."""
    labels = torch.arange(4).repeat_interleave(torch.arange(1, 5))
    return points(torch.eye(10), labels, ["a", "b", "c", "d"])


@pytest.mark.parametrize("case", [*range(40), *(pytest.param(case, marks=pytest.mark.slow) for case in range(40, 200))])
def test_weights_and_order_equal_plain_python(case):
    rng = random.Random(case)
    units = rng.choice([1, 2, 5, 30])
    votes = [float(rng.choice([0, 0, 1, 2, 7])) for _ in range(units)]
    sizes = [rng.choice([1, 2, 9]) for _ in range(units)]
    smoothing, strength = rng.choice([0.1, 1.0, 5.0]), rng.choice([0.0, 0.5, 2.0])
    total, images = sum(votes) + smoothing * units, sum(sizes)
    expected = [math.log((v + smoothing) / total) - math.log(s / images) for v, s in zip(votes, sizes, strict=True)]
    weights = log_importance(torch.tensor(votes), torch.tensor(sizes), smoothing)
    assert weights.tolist() == pytest.approx(expected)
    uniform = torch.rand(units, generator=torch.Generator().manual_seed(case), dtype=torch.float64).tolist()
    keys = [strength * w - math.log(-math.log(u)) for w, u in zip(weights.tolist(), uniform, strict=True)]
    slow = sorted(range(units), key=lambda unit: -keys[unit])
    assert resampled(weights, strength, case).tolist() == slow


def test_without_strength_it_is_random_selection(source, tmp_path):
    """10,000 draws of two of ten images by each: every pair is as frequent (chi-square of 44 degrees of freedom)."""
    weights = log_importance(torch.tensor([9.0, 0.0, 3.0, 1.0]), torch.tensor([1, 2, 3, 4]), 1.0)[source.labels]
    counts = torch.zeros(10, 10)
    for seed in range(10_000):
        first, second = sorted(resampled(weights, 0.0, seed)[:2].tolist())
        counts[first, second] += 1
    pairs = torch.combinations(torch.arange(10))
    observed = counts[pairs[:, 0], pairs[:, 1]]
    expected = 10_000 / 45
    assert float(((observed - expected) ** 2 / expected).sum()) < 90  # one in 10,000 for a fair draw
    selector = ImportanceResampling(Voted([9, 0, 3, 1]), strength=0.0, seed=5)
    found = selector.select(source, cache=tmp_path)
    drawn = RandomSelector(5, unit="sample").select(source, cache=tmp_path)
    assert found.ranking.shape == drawn.ranking.shape


def test_odds_are_votes_over_sizes(source):
    """Of two units of one image each, the one with three times the weight is first in three of four draws."""
    weights = torch.tensor([math.log(3), 0.0]).double()
    first = sum(int(resampled(weights, 1.0, seed)[0] == 0) for seed in range(4000))
    assert 0.72 < first / 4000 < 0.78


def test_much_strength_is_the_density_ratio_alone(source, tmp_path):
    found = ImportanceResampling(Voted([1, 4, 3, 0]), strength=1e6).select(source, cache=tmp_path)
    assert source.labels[found.ranking].tolist() == [1, 1, 0, 2, 2, 2, 3, 3, 3, 3]
    assert found.unit_kind == "sample"
    assert len(found.kept(Budget(images=4)).samples) == 4


def test_units_of_the_other_selector_can_be_drawn(source, tmp_path):
    found = ImportanceResampling(Voted([1, 4, 3, 0]), strength=1e6, unit="same").select(source, cache=tmp_path)
    assert found.ranking.tolist() == [1, 0, 2, 3]
    assert found.unit_names == ("a", "b", "c", "d")
    assert found.votes.tolist() == [1, 4, 3, 0]


def test_clusters_will_do_for_a_source_without_labels(points, tmp_path):
    source, target = points(torch.eye(12)), points(torch.eye(12)[:3])
    selector = ImportanceResampling(FeatureMapping(num_clusters=3))
    found = selector.select(source, target, nn.Flatten(), cache=tmp_path)
    assert found.num_units == 12
    assert found.config["options"]["of"]["method"] == "feature_mapping"


def test_units_without_images_are_last(points, tmp_path):
    source = points(torch.eye(3), torch.tensor([0, 2, 2]), ["a", "nobody", "c"])
    found = ImportanceResampling(Voted([1, 5, 2]), strength=1e6, unit="same").select(source, cache=tmp_path)
    assert found.scores.isfinite().all()
    assert found.ranking[-1] == 1 or found.scores[1] == found.scores.min()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1.0}, "`strength` must be finite and at least 0, got -1.0"),
        ({"strength": float("inf")}, "`strength` must be finite"),
        ({"smoothing": -0.5}, "`smoothing` must be finite and at least 0, got -0.5"),
        ({"unit": "class"}, "`unit` must be 'sample' or 'same'"),
        ({"seed": -1}, "`seed`"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        ImportanceResampling(**options)


def test_no_smoothing_needs_a_vote_for_every_unit(source, tmp_path):
    with pytest.raises(InputError, match="`smoothing` is 0, and 2 of 4 units have no vote"):
        ImportanceResampling(Voted([1, 0, 3, 0]), smoothing=0.0).select(source, cache=tmp_path)
    found = ImportanceResampling(Voted([1, 1, 3, 2]), smoothing=0.0).select(source, cache=tmp_path)
    assert replace(found, votes=found.votes).num_units == 10


@pytest.mark.parametrize("levels", [3, 10**9], ids=["many ties", "none"])
@pytest.mark.parametrize("count", [1, 2, 65_536, 65_537, 200_000])
def test_a_sort_in_less_memory_leaves_equal_keys_in_order(count, levels):
    keys = np.random.default_rng(count).integers(0, levels, count).astype(float)
    assert (_stable_order(keys) == keys.argsort(kind="stable")).all()
