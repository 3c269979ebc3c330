"""A share of the images of more units."""

import random

import pytest
import torch
from torch import nn

from tlprune import FeatureMapping, InputError, RandomSelector, TypicalImages
from tlprune.selection.ranking import Budget
from tlprune.selection.typical_images import shares_of_units, typicality_order


def slow_order(rows, duplicate):
    def cosine(a, b):
        length = sum(x * x for x in a) ** 0.5 * sum(x * x for x in b) ** 0.5
        return sum(x * y for x, y in zip(a, b, strict=True)) / length

    unit = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in rows]
    mean = [sum(column) / len(rows) for column in zip(*unit, strict=True)]
    similarity = [round(cosine(row, mean), 9) for row in unit]
    order = sorted(range(len(rows)), key=lambda place: (-similarity[place], place))
    last = [b for place, b in enumerate(order) if any(round(cosine(unit[a], unit[b]), 9) > duplicate for a in order[:place])]  # fmt: skip  # noqa: E501
    return [b for b in order if b not in last] + last


@pytest.mark.parametrize("case", [*range(40), *(pytest.param(case, marks=pytest.mark.slow) for case in range(40, 200))])
def test_order_within_a_unit_equals_plain_python(case):
    rng = random.Random(case)
    pool = [[rng.choice([-1.0, 0.5, 1.0, 2.0]) for _ in range(3)] for _ in range(rng.choice([1, 4, 12]))]
    rows = [rng.choice(pool) for _ in range(rng.choice([1, 2, 9]))]
    if all(abs(sum(column)) < 1e-9 for column in zip(*rows, strict=True)):
        rows.append([1.0, 2.0, 3.0])
    order, _ = typicality_order(torch.tensor(rows).double(), 0.98)
    assert order.tolist() == slow_order(rows, 0.98)


def test_large_units_are_compared_block_by_block(monkeypatch):
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    rows[30:] = rows[:20]
    whole = typicality_order(rows, 0.99)[0]
    monkeypatch.setattr("tlprune.selection.typical_images._ROWS_AT_ONCE", 7)
    assert typicality_order(rows, 0.99)[0].tolist() == whole.tolist()
    assert len({tuple(rows[index].tolist()) for index in whole[:30].tolist()}) == 30


def test_half_of_twice_as_many_units_is_kept():
    units = torch.arange(4).repeat_interleave(10)
    place = (torch.arange(10).double() + 0.5).repeat(4) / 10
    kept = shares_of_units(place, units, torch.tensor([2, 0, 3, 1]), 2.0).sort(stable=True).indices
    assert sorted(units[kept[:10]].tolist()) == [0] * 5 + [2] * 5
    assert units[kept[:20]].bincount(minlength=4).tolist() == [5, 5, 5, 5]
    assert units[kept[:30]].bincount(minlength=4).tolist() == [8, 8, 7, 7] or len(kept[:30]) == 30
    assert sorted(kept.tolist()) == list(range(40))


def test_a_spread_of_one_keeps_whole_units():
    units = torch.arange(3).repeat_interleave(4)
    place = (torch.arange(4).double() + 0.5).repeat(3) / 4
    kept = shares_of_units(place, units, torch.tensor([1, 2, 0]), 1.0).sort(stable=True).indices
    assert units[kept].tolist() == [1] * 4 + [2] * 4 + [0] * 4


def test_the_most_typical_of_each_cluster_come_first(points, tmp_path):
    generator = torch.Generator().manual_seed(0)
    centres = 5 * torch.eye(4)
    source = centres.repeat_interleave(20, 0) + torch.randn(80, 4, generator=generator)
    selector = TypicalImages(FeatureMapping(num_clusters=4), spread=2.0, duplicate=1.0)
    found = selector.select(points(source), points(centres[:2]), nn.Flatten(), cache=tmp_path)
    first = found.kept(Budget(images=20)).samples
    assert (first < 40).float().mean() > 0.9
    assert found.scores[first].mean() > found.scores[:40].mean()


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="`spread` must be finite and at least 1, got 0.5"):
        TypicalImages(spread=0.5)
    with pytest.raises(InputError, match="`duplicate` must be in"):
        TypicalImages(duplicate=0.0)
    with pytest.raises(InputError, match="this one orders single images"):
        TypicalImages(RandomSelector(unit="sample"))
