import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from tlprune.errors import InputError
from tlprune.selection.multi_target import MultiTarget
from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection


def selection(votes, scores=None):
    """Of one target: ten source images a unit, a ballot for each vote."""
    counts = torch.tensor(votes)
    tie_break = torch.zeros(len(votes)) if scores is None else torch.tensor(scores)
    return Selection(
        method="label_mapping",
        unit_names=tuple(f"unit{unit}" for unit in range(len(votes))),
        ranking=rank_units(counts.double(), tie_break),
        votes=counts,
        scores=tie_break,
        unit_of_sample=torch.arange(len(votes)).repeat_interleave(10),
        assignments=torch.arange(len(votes)).repeat_interleave(counts),
        metadata={"seconds": {"vote": 0.5}},
    )


def covered(one, units):
    """By hand: the share of a target's votes that these units hold."""
    return sum(one.votes[unit].item() for unit in units) / one.votes.sum().item()


@pytest.fixture
def three():
    # the second target is ten times as big, the third wants what nobody else wants
    return [selection([4, 3, 2, 1, 0, 0]), selection([10, 60, 0, 30, 0, 0]), selection([0, 0, 0, 0, 1, 9])]


@pytest.mark.parametrize("how", ["worst_case", "union", "weighted_sum"])
def test_all_units_once_all_ballots_and_every_targets_coverage(three, how):
    found = MultiTarget(how).combine(three)
    assert sorted(found.ranking.tolist()) == list(range(6))
    assert found.votes.sum() == pytest.approx(10 + 100 + 10)
    assert found.assignments.tolist() == torch.cat([one.assignments for one in three]).tolist()
    for units in range(1, 7):
        expected = [covered(one, found.ranking[:units].tolist()) for one in three]
        assert found.covered_by_target[:, units - 1].tolist() == pytest.approx(expected)
        if how != "weighted_sum":
            assert found.coverage(units) == pytest.approx(min(expected))
    assert found.metadata["seconds"] == {"vote": 1.5}


def test_every_target_counts_the_same_however_many_images_it_has(three):
    found = MultiTarget("weighted_sum").combine(three)
    shares = (three[0].votes / 10 + three[1].votes / 100 + three[2].votes / 10) / 3
    torch.testing.assert_close(found.votes, shares * 120)
    assert found.ranking.tolist() == shares.sort(descending=True, stable=True).indices.tolist()


def test_weights_decide(three):
    alone = MultiTarget("weighted_sum", (0.0, 0.0, 2.0)).combine(three)
    assert alone.ranking[:2].tolist() == [5, 4]
    assert alone.coverage(2) == pytest.approx(1)


def test_huge_weights_do_not_overflow(three):
    same = MultiTarget("weighted_sum", (1e308, 1e308, 1e308)).combine(three)
    torch.testing.assert_close(same.votes, MultiTarget("weighted_sum").combine(three).votes)


def test_union_holds_the_best_of_each(three):
    found = MultiTarget("union").combine(three)
    for best in range(1, 3):
        wanted = set().union(*(one.ranking[:best].tolist() for one in three))
        assert set(found.ranking[: len(wanted)].tolist()) == wanted


@pytest.mark.parametrize("case", range(50))
def test_worst_case_always_serves_the_target_that_is_covered_least(case):
    rng = random.Random(case)
    units, targets = rng.choice([1, 2, 8, 20]), rng.choice([2, 3])
    some = [selection([1] + [rng.choice([0, 0, 1, 5]) for _ in range(units - 1)]) for _ in range(targets)]
    found = MultiTarget("worst_case").combine(some)
    taken = []
    for unit in found.ranking.tolist():
        shares = [covered(one, taken) for one in some]
        if min(shares) < 1 - 1e-9:
            least = next(place for place, share in enumerate(shares) if share < min(shares) + 1e-9)
            left = [best for best in some[least].ranking.tolist() if best not in taken]
            assert unit == left[0]
        taken.append(unit)
    assert len(set(taken)) == units


def test_coverage_budget_holds_for_every_target(three):
    found = MultiTarget("worst_case").combine(three)
    kept = found.keep(coverage=0.9)
    units = set(found.unit_of_sample[kept].tolist())
    assert min(covered(one, units) for one in three) >= 0.9


def test_it_is_saved_and_read(three, tmp_path):
    found = MultiTarget("worst_case").combine(three)
    found.save(tmp_path / "s.safetensors")
    again = Selection.load(tmp_path / "s.safetensors")
    assert again.digest == found.digest
    assert again.covers_each_target
    assert torch.equal(again.target_votes, found.target_votes)


def without_votes(ranking):
    """Of one target, by rank alone."""
    units = len(ranking)
    names = tuple(f"unit{unit}" for unit in range(units))
    nothing, samples = torch.zeros(units), torch.arange(units).repeat_interleave(10)
    return Selection("mine", names, torch.tensor(ranking), nothing, nothing, samples, torch.empty(0))


def by_hand(some, how, weights):
    """Slowly, in fractions: shares of votes, or of points from ``U`` for the best unit to 1 for the last."""
    units = some[0].num_units
    shares, ranks = [], []
    for one in some:
        rank = {unit: place for place, unit in enumerate(one.ranking.tolist())}
        votes = [Fraction(vote) for vote in one.votes.tolist()]
        counted = votes if sum(votes) else [Fraction(units - rank[unit]) for unit in range(units)]
        shares.append([vote / sum(counted) for vote in counted])
        ranks.append(rank)
    total = [
        sum(Fraction(weight) * share[unit] for weight, share in zip(weights, shares, strict=True))
        for unit in range(units)
    ]
    if how == "weighted_sum":
        return sorted(range(units), key=lambda unit: (-total[unit], unit))
    if how == "union":
        return sorted(range(units), key=lambda unit: (min(rank[unit] for rank in ranks), -total[unit], unit))
    taken = []
    while len(taken) < units:
        covered = [sum(share[unit] for unit in taken) for share in shares]
        if min(covered) == 1:
            return taken + sorted(set(range(units)) - set(taken), key=lambda unit: (-total[unit], unit))
        least = some[covered.index(min(covered))].ranking.tolist()
        taken.append(next(unit for unit in least if unit not in taken))
    return taken


@pytest.mark.parametrize("how", ["worst_case", "union", "weighted_sum"])
@pytest.mark.parametrize("case", range(20))
def test_a_target_without_votes_counts_by_its_ranks(how, case):
    rng = random.Random(case)
    units, targets = rng.choice([1, 2, 5, 8]), rng.choice([2, 3])
    some = [without_votes(rng.sample(range(units), units)) for _ in range(targets)]
    if case % 2:
        some[rng.randrange(targets)] = selection([1] + [rng.choice([0, 2, 5]) for _ in range(units - 1)])
    weights = tuple(rng.choice([1.0, 2.0]) for _ in some) if how == "weighted_sum" and case % 3 == 0 else None
    found = MultiTarget(how, weights).combine(some)
    assert found.ranking.tolist() == by_hand(some, how, weights or [1] * targets)
    assert found.target_votes.sum(1).tolist() == [one.votes.sum() for one in some]
    voting = [one for one in some if one.votes.any()]
    for units_kept in range(1, units + 1) if how != "weighted_sum" else ():
        shares = [covered(one, found.ranking[:units_kept].tolist()) for one in voting]
        assert found.coverage(units_kept) == pytest.approx(min(shares, default=0))


def test_nobody_voted_so_no_share_of_votes_can_be_kept():
    found = MultiTarget().combine([without_votes([2, 0, 1]), without_votes([1, 0, 2])])
    assert found.ranking.tolist() == [2, 1, 0]
    assert len(found.keep(units=2)) == 20
    with pytest.raises(InputError, match="`coverage` needs votes"):
        found.keep(coverage=0.5)


@pytest.mark.parametrize("how", ["worst_case", "union", "weighted_sum"])
def test_votes_count_though_nobody_is_known_to_have_cast_them(how, three):
    silent = [replace(one, assignments=torch.empty(0)) for one in three]
    found, told = MultiTarget(how).combine(silent), MultiTarget(how).combine(three)
    assert torch.equal(found.ranking, told.ranking)
    assert torch.equal(found.votes, told.votes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "sum"}, "`combine` must be 'worst_case', 'union' or 'weighted_sum', got 'sum'"),
        ({"how": "union", "weights": (1.0, 2.0)}, "go with `combine: weighted_sum`, not with 'union'"),
        ({"how": "weighted_sum", "weights": (1.0, -2.0)}, "at least 0"),
        ({"how": "weighted_sum", "weights": (0.0, 0.0)}, "not all 0"),
        ({"how": "weighted_sum", "weights": (float("nan"), 1.0)}, "at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        MultiTarget(**options)


def test_what_does_not_fit_is_refused(three):
    with pytest.raises(InputError, match="`target_weights` has 2 entries, there are 3 targets"):
        MultiTarget("weighted_sum", (1.0, 2.0)).combine(three)
    with pytest.raises(InputError, match="rank different units"):
        MultiTarget().combine([three[0], selection([1, 2])])
