"""What intervals support: at which ratios pruning costs no more than a margin, and what would decide where they do not.

A winning subset is a claim of non-inferiority. At a ratio it holds if the 95 % interval of the difference to no
pruning, on test images, lies above minus the margin. Ratios are tested in ascending order up to the first that does not
hold, so that the error of all claims of a method together stays that of one (a fixed sequence; Westfall and Krishen,
2001).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tlprune.experiments.results import NONE, Group, MatchBudget, Results
from tlprune.experiments.statistics import FEWEST_TARGETS, Estimate, Pooled, student

__all__ = ["FEWEST_SEEDS", "UNFINISHED", "Claim", "Winning", "pooled_winning", "targets_for", "winning"]

FEWEST_SEEDS = 3
"""Fewest seeds for an interval of a single target: with two, Student's factor is 12.7."""

UNFINISHED = "the sweep has not ended"
"""What an open claim waits for while a sweep runs."""

_Z95 = 1.959964
_Z80 = 0.841621
"""Quantiles of a two-sided test at 5 % and of a power of 80 %."""

_MOST = 1000
"""Numbers of seeds or targets above it are not worth naming."""

Standing = Literal["holds", "fails", "open"]


@dataclass(frozen=True)
class Claim:
    """The claim that pruning at one ratio costs no more than the margin.

    Args:
        ratio: Prune ratio.
        mean: Difference to no pruning on test images, in points.
        low: Lower end of its 95 % interval; NaN without one.
        high: Upper end of its 95 % interval; NaN without one.
        standing: ``holds`` if the interval lies above minus the margin, ``fails`` if it lies below, else ``open``.
        needs: What would decide an open claim, in words.
        targets: Number of targets that a claim over targets is about; None for a claim on one target.
    """

    ratio: float
    mean: float
    low: float
    high: float
    standing: Standing
    needs: str = ""
    targets: int | None = None


@dataclass(frozen=True)
class Winning:
    """Winning subset of a method.

    Args:
        margin: Points that may be lost.
        claims: Claims, by ascending ratio.
    """

    margin: float
    claims: tuple[Claim, ...] = ()

    @property
    def claim(self) -> Claim | None:
        """Claim of the largest ratio that holds, with each smaller ratio; None if there is none."""
        found = None
        for claim in self.claims:
            if claim.standing != "holds":
                break
            found = claim
        return found

    @property
    def ratio(self) -> float | None:
        """Ratio of :attr:`claim`; None if there is none."""
        return None if self.claim is None else self.claim.ratio

    @property
    def stop(self) -> Claim | None:
        """Claim of the smallest ratio that does not hold, which larger ones wait for; None if all hold."""
        return next((claim for claim in self.claims if claim.standing != "holds"), None)

    @property
    def open(self) -> Claim | None:
        """:attr:`stop` if it is open."""
        return self.stop if self.stop is not None and self.stop.standing == "open" else None


def winning(results: Results, target: str, method: str, mode: str, match_budget: MatchBudget = "epochs") -> Winning:
    """Finds the winning subset of a method for one target, over its seeds and test images.

    Args:
        results: Finished cells.
        target: Name of the target.
        method: Name of the method.
        mode: Transfer mode.
        match_budget: Length of the pruned trainings.
    """
    claims = []
    whole = Group(target, NONE)
    for group in results.groups(target, method, match_budget):
        found = results.difference(group, whole, mode)
        if found is not None:
            rates = [results.accuracy(one, mode).mean / 100 for one in (group, whole)]
            images = results.targets[target].get("test")
            claims.append(_on_target(group.ratio, found, rates, images, results.margin))
    return Winning(results.margin, tuple(claims))


def pooled_winning(results: Results, method: str, mode: str) -> Winning:
    """Finds the winning subset of a method at equal epochs, over all targets and seeds."""
    claims = []
    for group in results.groups_over_targets(method, "epochs"):
        found = results.pooled(group, Group("", NONE), mode)
        if found is not None:
            claims.append(_over_targets(group.ratio, found, results.margin))
    return Winning(results.margin, tuple(claims))


def _on_target(ratio: float, found: Estimate, rates: Iterable[float], images: int | None, margin: float) -> Claim:
    """One claim for one target.

    Seeds share their test images, so that the choice of these adds to the interval. The deviation of a difference of
    two accuracies on ``images`` images is taken as that of independent ones, which is larger than that of models whose
    errors agree.
    """
    if not found.final:
        return Claim(ratio, found.mean, found.low, found.high, "open", UNFINISHED)
    if found.count < FEWEST_SEEDS:
        count = "one seed has no interval" if found.count == 1 else "two seeds cannot decide"
        return Claim(ratio, found.mean, found.low, found.high, "open", f"{count}; run {FEWEST_SEEDS} or more")
    if not images:
        return Claim(ratio, found.mean, math.nan, math.nan, "open", "the number of test images is not recorded")
    sampling = 100 * math.sqrt(sum(rate * (1 - rate) for rate in rates) / images)
    half = math.hypot(found.half_width, _Z95 * sampling)
    low, high = found.mean - half, found.mean + half
    standing = _standing(low, high, margin)
    needs = ""
    if standing == "open":
        room = (found.mean + margin) / (_Z95 + _Z80)  # the largest standard error that decides
        needs = _seeds_or_images(found, sampling, room, images) if room > 0 else _below(margin)
    return Claim(ratio, found.mean, low, high, standing, needs)


def _seeds_or_images(found: Estimate, sampling: float, room: float, images: int) -> str:
    """Says what brings the standard error below ``room``: seeds, test images, or half its square from each."""
    deviation = found.half_width * math.sqrt(found.count) / student(found.count - 1)
    of_seeds = deviation / math.sqrt(found.count)
    if sampling < room:
        return f"{_about(max(deviation**2 / (room**2 - sampling**2), found.count + 1), 'seeds')} would decide"
    if of_seeds**2 <= room**2 / 2:
        wanted = images * sampling**2 / (room**2 - of_seeds**2)
        return f"{_about(wanted, 'test images', 100 * _MOST)} would decide"
    more_images = _about(2 * images * (sampling / room) ** 2, "test images", 100 * _MOST)
    return f"{more_images} and {_about(2 * (deviation / room) ** 2, 'seeds')} would decide"


def _over_targets(ratio: float, found: Pooled, margin: float) -> Claim:
    if not found.final:
        return Claim(ratio, found.mean, math.nan, math.nan, "open", UNFINISHED, found.targets)
    if not found.enough_targets:
        text = f"{found.targets} {'target is' if found.targets == 1 else 'targets are'} too few; run {FEWEST_TARGETS}"
        return Claim(ratio, found.mean, math.nan, math.nan, "open", f"{text} or more", found.targets)
    standing = _standing(found.low, found.high, margin)
    needs = ""
    if standing == "open":
        distance = found.mean + margin
        needs = targets_for(found, distance) if distance > 0 else _below(margin)
    return Claim(ratio, found.mean, found.low, found.high, standing, needs, found.targets)


def targets_for(found: Pooled, distance: float) -> str:
    """Says how many targets would tell a distance from zero, with a power of 80 % at the two-sided 5 % level.

    Args:
        found: Difference over some targets; others are taken to vary as much.
        distance: Distance in points, above 0.
    """
    error = (found.high - found.low) / (2 * _Z95)
    wanted = max(found.targets * ((_Z95 + _Z80) * error / distance) ** 2, found.targets + 1)
    return f"{_about(wanted, 'targets')} would decide"


def _about(number: float, what: str, most: int = _MOST) -> str:
    if number > most:
        return f"more than {most:,} {what}"
    digits = max(len(str(math.ceil(number))) - 2, 0)  # two digits are all that can be said
    return f"about {math.ceil(number / 10**digits) * 10**digits:,} {what}"


def _below(margin: float) -> str:
    return f"its mean is below {-margin:+g}, so more runs would rather refute it"


def _standing(low: float, high: float, margin: float) -> Standing:
    if low >= -margin:
        return "holds"
    return "fails" if high < -margin else "open"
