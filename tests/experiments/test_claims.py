"""What intervals support: winning subsets as claims of non-inferiority, and the power that is missing."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from tlprune.experiments.claims import pooled_winning, winning
from tlprune.experiments.results import NONE, Cell, MethodInfo, Results, Score
from tlprune.experiments.statistics import pooled

METHODS = {NONE: MethodInfo("no pruning"), "lm": MethodInfo("LM"), "random": MethodInfo("random")}


def made(differences, targets=1, test_images=1_000_000, level=80.0, margin=None):
    """No pruning at ``level`` and LM at each ratio: ``differences[ratio][target][seed]`` points above it."""
    names = [f"t{number}" for number in range(targets)]
    known = {name: {"split": "x", "test": test_images} for name in names}
    found = Results("made", {}, known, METHODS, ["probe"], provenance={} if margin is None else {"margin": margin})

    def add(target, method, ratio, seed, test):
        kept = (10, 5, 100, 50, 0, 0, 1)
        found.cells.append(
            Cell(target, method, ratio, "epochs", seed, *kept, None, {"probe": Score(99.0, test, 1.0)}, None)
        )

    for place, name in enumerate(names):
        for seed in range(len(next(iter(differences.values()))[place])):
            add(name, NONE, 0.0, seed, level + seed)
            for ratio, of in differences.items():
                add(name, "lm", ratio, seed, level + seed + of[place][seed])
    return found


def test_the_interval_of_one_target_covers_seeds_and_test_images():
    """By hand: Student over seeds, and two independent binomials over images."""
    values = [-0.2, 0.3, 0.1, -0.4]
    results = made({0.5: [values]}, test_images=2000)
    [claim] = winning(results, "t0", "lm", "probe").claims
    seeds = stats.t.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    accuracies = np.array([80 + 1.5, 80 + 1.5 + np.mean(values)]) / 100
    images = 196 / 100 * 100 * math.sqrt((accuracies * (1 - accuracies)).sum() / 2000)
    assert claim.mean == pytest.approx(np.mean(values))
    assert claim.high - claim.mean == pytest.approx(math.hypot(seeds, images), rel=1e-3)
    assert claim.standing == "open"


def test_a_hundred_validation_images_never_make_a_winner():
    """One seed, validation above no pruning, test below: what once opened a report as its largest card."""
    results = made({0.9: [[-2.8]]}, test_images=900)
    for cell in results.cells:
        cell.scores["probe"] = Score(60.0 if cell.method == "lm" else 55.0, cell.scores["probe"].test, 1.0)
    won = winning(results, "t0", "lm", "probe")
    assert won.ratio is None
    assert won.open.needs == "one seed has no interval; run 3 or more"
    assert (
        winning(made({0.9: [[0.0, 0.0]]}), "t0", "lm", "probe").open.needs == "two seeds cannot decide; run 3 or more"
    )


def test_a_ratio_counts_only_if_all_smaller_ones_hold():
    good, bad, unsure = [0.1, 0.2, 0.15], [-5.0, -5.1, -5.2], [-0.5, 1.5, -2.0]
    assert winning(made({0.3: [good], 0.5: [good], 0.7: [bad]}), "t0", "lm", "probe").ratio == 0.5
    won = winning(made({0.3: [bad], 0.5: [good], 0.7: [unsure]}), "t0", "lm", "probe")
    assert (won.ratio, won.open, won.stop.ratio) == (None, None, 0.3)
    won = winning(made({0.3: [good], 0.5: [unsure], 0.7: [good], 0.9: [bad]}), "t0", "lm", "probe")
    assert (won.ratio, won.open.ratio) == (0.3, 0.5)
    assert [one.standing for one in won.claims] == ["holds", "open", "holds", "fails"]


@pytest.mark.parametrize(("margin", "standing"), [(0.4, "fails"), (0.6, "open"), (2.0, "holds")])
def test_the_margin_is_that_of_the_sweep(margin, standing):
    results = made({0.5: [[-0.55, -0.6, -0.65]]}, margin=margin)
    won = winning(results, "t0", "lm", "probe")
    assert (won.margin, won.claims[0].standing) == (margin, standing)


def test_without_the_number_of_test_images_nothing_is_claimed():
    results = made({0.5: [[0.1, 0.2, 0.1]]})
    del results.targets["t0"]["test"]
    won = winning(results, "t0", "lm", "probe")
    assert (won.ratio, won.open.needs) == (None, "the number of test images is not recorded")


def number_in(needs):
    return int("".join(filter(str.isdecimal, needs)))


@pytest.mark.parametrize("deviation", [0.8, 1.5])
def test_as_many_seeds_as_it_says_decide_four_times_in_five(deviation):
    rng = np.random.default_rng(3)
    few = rng.normal(0, 1, 6)
    few = (few - few.mean()) / few.std(ddof=1) * deviation  # of mean 0: the margin of 1 point is far away
    needs = winning(made({0.5: [few.tolist()]}, test_images=10**7), "t0", "lm", "probe").claims[0].needs
    if not needs:  # already decided
        assert deviation == 0.8
        return
    assert needs.endswith("seeds would decide")
    seeds = number_in(needs)
    hits = 0
    for _ in range(200):
        values = rng.normal(0, deviation, seeds)
        hits += values.mean() - stats.t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds) >= -1
    assert 0.7 <= hits / 200 <= 0.95


def test_test_images_are_asked_for_where_seeds_cannot_help():
    needs = winning(made({0.5: [[0.0, 0.01, -0.01]]}, test_images=900), "t0", "lm", "probe").open.needs
    assert needs.endswith("test images would decide")
    images = number_in(needs)
    rate = 0.81
    room = 1 / (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert images == pytest.approx(2 * rate * (1 - rate) * (100 / room) ** 2, rel=0.05)


def test_test_images_and_seeds_are_asked_for_where_both_are_too_few():
    """Half of what the standard error may be, squared, comes from each."""
    values = [9.0, -6.0, 3.0, -2.0]
    needs = winning(made({0.5: [values]}, test_images=900), "t0", "lm", "probe").open.needs
    found = re.fullmatch(r"about ([\d,]+) test images and about (\d+) seeds would decide", needs)
    images, seeds = (int(one.replace(",", "")) for one in found.groups())
    room = (np.mean(values) + 1) / (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    rates = np.array([0.815, 0.815 + np.mean(values) / 100])
    assert images == pytest.approx(2 * (rates * (1 - rates)).sum() * (100 / room) ** 2, rel=0.06)
    assert seeds == pytest.approx(2 * np.var(values, ddof=1) / room**2, rel=0.06)


def test_more_runs_are_not_asked_for_where_the_mean_is_below_the_margin():
    needs = winning(made({0.5: [[-1.5, -0.5, -2.0]]}), "t0", "lm", "probe").open.needs
    assert needs == "its mean is below -1, so more runs would rather refute it"


def test_five_targets_carry_no_claim_and_six_do():
    five, six = ([[0.1 * place + 0.2] for place in range(count)] for count in (5, 6))
    won = pooled_winning(made({0.5: five}, targets=5), "lm", "probe")
    assert (won.ratio, won.open.needs) == (None, "5 targets are too few; run 6 or more")
    assert pooled_winning(made({0.5: six}, targets=6), "lm", "probe").ratio == 0.5


def test_claims_over_targets_use_the_bootstrap_interval():
    rng = np.random.default_rng(1)
    values = rng.normal(-0.5, 1.5, (12, 2)) - 0.4
    won = pooled_winning(made({0.5: values.tolist(), 0.9: (values - 6).tolist()}, targets=12), "lm", "probe")
    expected = pooled({(f"t{row}", seed): values[row, seed] for row in range(12) for seed in range(2)})
    assert (won.claims[0].low, won.claims[0].high) == pytest.approx((expected.low, expected.high))
    assert [one.standing for one in won.claims] == ["open", "fails"]
    assert won.open.needs.endswith("targets would decide")


def test_as_many_targets_as_it_says_decide_four_times_in_five():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, 12)
    values = (values - values.mean()) / values.std(ddof=1) * 2
    needs = pooled_winning(made({0.5: [[one] for one in values]}, targets=12), "lm", "probe").open.needs
    targets = number_in(needs)
    hits = 0
    for _ in range(200):
        drawn = rng.normal(0, 2, targets)
        hits += pooled({(place, 0): one for place, one in enumerate(drawn.tolist())}).low >= -1
    assert 0.65 <= hits / 200 <= 0.95


def test_targets_won_and_lost_beyond_what_seeds_vary():
    """Twenty targets of two seeds share one variance: Student's t has twenty degrees of freedom."""
    rng = np.random.default_rng(4)
    truth = np.repeat([3.0, -3.0, 0.0], [8, 4, 8])
    grid = truth[:, None] + rng.normal(0, 0.5, (20, 2))
    found = pooled({(row, seed): grid[row, seed] for row in range(20) for seed in range(2)})
    deviation = math.sqrt((np.var(grid, axis=1, ddof=1)).mean())
    beyond = np.abs(grid.mean(1)) > stats.t.ppf(0.975, 20) * deviation / math.sqrt(2)
    assert found.clearly_won == (beyond & (grid.mean(1) > 0)).sum() >= 8
    assert found.clearly_lost == (beyond & (grid.mean(1) < 0)).sum() >= 4
    assert found.won + found.lost == 20
    one_seed = pooled({(row, 0): grid[row, 0] for row in range(20)})
    assert (one_seed.clearly_won, one_seed.clearly_lost) == (None, None)
    assert (found.verdict, one_seed.enough_targets) == ("unclear", True)
