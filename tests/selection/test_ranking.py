import random
from types import SimpleNamespace

import pytest
import torch

from tlprune.errors import InputError
from tlprune.selection.ranking import Budget, coverage, kept, kept_samples, rank_units


def slow_ranking(votes, scores):
    return sorted(range(len(votes)), key=lambda unit: (-votes[unit], -scores[unit], unit))


@pytest.mark.parametrize("case", range(200))
def test_ranking_equals_a_sort_in_plain_python(case):
    rng = random.Random(case)
    units = rng.choice([1, 2, 7, 40])
    votes = [float(rng.choice([0, 0, 1, 2, 5])) for _ in range(units)]
    scores = [rng.choice([0.0, 0.25, 0.5]) for _ in range(units)]  # few values, so that ties are common
    assert rank_units(torch.tensor(votes), torch.tensor(scores)).tolist() == slow_ranking(votes, scores)


@pytest.mark.parametrize("case", range(50))
def test_kept_samples_equal_a_loop(case):
    rng = random.Random(case)
    units = rng.choice([1, 3, 20])
    of_sample = [rng.randrange(units) for _ in range(rng.choice([0, 1, 60]))]
    kept = rng.sample(range(units), rng.randint(1, units))
    expected = [sample for sample, unit in enumerate(of_sample) if unit in kept]
    assert kept_samples(torch.tensor(of_sample, dtype=torch.int32), torch.tensor(kept), units).tolist() == expected


@pytest.mark.parametrize(
    ("ratio", "units", "kept"),
    [(0.0, 100, 100), (0.7, 100, 30), (0.29, 100, 71), (0.999, 100, 1), (0.5, 3, 2), (0.9, 1, 1), (0.1, 5, 5)],
)
def test_ratio_removes_whole_units_and_leaves_one(ratio, units, kept):
    assert Budget(ratio=ratio).units_kept(torch.ones(units), torch.zeros(units)) == kept


@pytest.mark.parametrize(("images", "kept"), [(5, 1), (9, 1), (10, 2), (14, 2), (15, 3), (10**30, 3)])
def test_image_budget_is_never_exceeded(images, kept):
    assert Budget(images=images).units_kept(torch.tensor([5, 5, 5]), torch.ones(3)) == kept


def test_an_image_budget_below_the_best_unit_names_both_numbers():
    with pytest.raises(InputError, match="`keep_images` is 4, the best unit alone has 5 images"):
        Budget(images=4).units_kept(torch.tensor([5, 1]), torch.ones(2))


@pytest.mark.parametrize(("exactly", "units"), [(1, 1), (5, 1), (6, 2), (10, 2), (14, 3), (15, 3)])
def test_an_exact_number_of_images_cuts_the_last_unit(exactly, units):
    of_sample = torch.arange(15) % 3
    order = SimpleNamespace(ranking=torch.tensor([2, 0, 1]), unit_of_sample=of_sample)
    order.unit_sizes, order.covered = torch.tensor([5, 5, 5]), torch.ones(3)
    found = kept(order, Budget(exactly=exactly))
    assert found.units.tolist() == [2, 0, 1][:units]
    assert len(found.samples) == exactly
    assert found.samples.tolist() == sorted(set(found.samples.tolist()))
    whole = {2, 0, 1} if exactly == 15 else set([2, 0, 1][: exactly // 5])
    assert {unit for unit in range(3) if (of_sample[found.samples] == unit).sum() == 5} == whole
    assert kept(order, Budget(exactly=exactly)).samples.tolist() == found.samples.tolist()


def test_more_exact_images_than_there_are_names_both_numbers():
    with pytest.raises(InputError, match="`keep_exactly` is 7, the source has 6 images"):
        Budget(exactly=7).units_kept(torch.tensor([5, 1]), torch.ones(2))


@pytest.mark.parametrize("ratio", [1.0, 1.1, -0.1, float("nan")])
def test_ratio_out_of_range_is_refused(ratio):
    with pytest.raises(InputError, match=r"`prune_ratio` must be in \[0, 1\), got"):
        Budget(ratio=ratio)


@pytest.mark.parametrize(("options", "message"), [({}, "got none"), ({"ratio": 0.1, "units": 2}, "prune_ratio` and")])
def test_exactly_one_budget(options, message):
    with pytest.raises(InputError, match=message):
        Budget(**options)


@pytest.mark.parametrize("options", [{"units": 0}, {"images": 0}, {"exactly": 0}])
def test_nothing_kept_is_refused(options):
    with pytest.raises(InputError, match="must be at least 1, got 0"):
        Budget(**options)


def test_more_units_than_there_are_names_both_numbers():
    with pytest.raises(InputError, match="`keep_units` is 9, the source has 4 units"):
        Budget(units=9).units_kept(torch.ones(4), torch.ones(4))


def test_coverage_by_hand():
    found = coverage(torch.tensor([1.0, 6.0, 3.0]), torch.tensor([1, 2, 0]))
    assert found.tolist() == pytest.approx([0.6, 0.9, 1.0])
    assert coverage(torch.zeros(3), torch.arange(3)).tolist() == [0, 0, 0]
