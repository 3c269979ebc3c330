"""Means over seeds and correlations over cells, with confidence intervals."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tlprune.errors import require_extra

__all__ = [
    "FEWEST_TARGETS",
    "Correlation",
    "Estimate",
    "Pooled",
    "correlation_within",
    "estimate",
    "paired_difference",
    "pooled",
    "student",
]

FEWEST_TARGETS = 6
"""Fewest targets for a conclusion over targets: five that all agree do so by chance in one of sixteen cases."""

_DRAWS = 1000
"""Bootstrap samples behind the interval of a correlation."""

_POOLED_DRAWS = 10_000
"""Bootstrap samples behind an interval over targets: its ends are exact to a hundredth of their distance."""

_DIGITS = 9
"""Decimals of a deviation: less is rounding, and equal deviations share a rank."""


@dataclass(frozen=True)
class Estimate:
    """Mean with its 95 % interval.

    Args:
        mean: Mean of the values.
        half_width: Half the width of the interval; NaN for a single value.
        count: Number of values.
        final: Whether no further values are to come. Verdicts on values so far would be wrong more often than they say.
    """

    mean: float
    half_width: float
    count: int
    final: bool = True

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Computes the mean and 95 % interval of independent values, by Student's t.

    Args:
        values: Values, at least one.

    Returns:
        Estimate; a single value has no interval.

    Example:
        >>> found = estimate([90.0, 92.0, 91.0])
        >>> round(found.mean, 2), round(found.half_width, 2)
        (91.0, 2.48)
    """
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, math.nan, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    return Estimate(mean, student(count - 1) * deviation / math.sqrt(count), count)


@cache
def student(degrees: int) -> float:
    """Returns the 97.5 % quantile of Student's t, by which an interval of 95 % reaches to each side.

    Raises:
        InputError: SciPy is not installed.
    """
    require_extra("an interval over seeds", "scipy", "scipy", "sweep")
    from scipy.stats import t

    return float(t.ppf(0.975, degrees))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Estimates ``first - second`` run by run, so that effects shared by both runs cancel.

    Args:
        first: Values, ordered by seed.
        second: Values of the same seeds.
    """
    return estimate([a - b for a, b in zip(first, second, strict=True)])


@dataclass(frozen=True)
class Pooled:
    """Mean over targets and seeds with its 95 % interval.

    Args:
        mean: Mean of the targets' means.
        low: Lower end of the interval; NaN with a single target and seed.
        high: Upper end of the interval; NaN with a single target and seed.
        targets: Number of targets.
        seeds: Number of seeds.
        won: Number of targets whose mean is above 0.
        lost: Number of targets whose mean is below 0.
        clearly_won: Number of targets that are above 0 beyond what seeds vary; None with one seed.
        clearly_lost: Number of targets that are below 0 beyond what seeds vary; None with one seed.
        final: As in :class:`Estimate`.
    """

    mean: float
    low: float
    high: float
    targets: int
    seeds: int
    won: int
    lost: int
    clearly_won: int | None
    clearly_lost: int | None
    final: bool = True

    @property
    def enough_targets(self) -> bool:
        """Whether there are :data:`FEWEST_TARGETS`, so that the interval supports a conclusion."""
        return self.targets >= FEWEST_TARGETS

    @property
    def verdict(self) -> Literal["better", "worse", "unclear", "so far"]:
        """Side of zero that the interval lies on, if there are enough targets; ``so far`` if it is not final."""
        if not self.final:
            return "so far"
        if not self.enough_targets or self.low <= 0 <= self.high:
            return "unclear"
        return "better" if self.low > 0 else "worse"


def pooled(values: Mapping[tuple[Hashable, Hashable], float]) -> Pooled:
    """Averages values over targets and seeds. The interval is a two-way bootstrap: both are drawn with replacement.

    Targets and seeds are two samples of their own, since runs of one target, or of one seed and its surrogate, depend
    on each other (Owen, "The pigeonhole bootstrap", 2007). Draws have a fixed seed.

    Args:
        values: Value of each target and seed, at least one; pairs may be missing.

    Example:
        >>> found = pooled({("a", 0): 1.0, ("a", 1): 3.0, ("b", 0): 2.0, ("b", 1): -4.0})
        >>> found.mean, found.targets, found.seeds, found.won
        (0.5, 2, 2, 1)
    """
    grid = _grid(values)
    targets, seeds = grid.shape
    present = ~np.isnan(grid)
    means = np.where(present, grid, 0).sum(1) / present.sum(1)
    clear = _beyond_seeds(grid, means)
    known: dict[str, Any] = {
        "targets": targets,
        "seeds": seeds,
        "won": int((means > 0).sum()),
        "lost": int((means < 0).sum()),
        "clearly_won": None if clear is None else int((clear & (means > 0)).sum()),
        "clearly_lost": None if clear is None else int((clear & (means < 0)).sum()),
    }
    if grid.size == 1:
        return Pooled(float(means.mean()), math.nan, math.nan, **known)
    rng = np.random.default_rng(0)
    rows, columns = (_drawn(rng, count) for count in grid.shape)
    sums, counts = (columns @ np.where(present, of, 0).T for of in (grid, present))
    each = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    held = (rows * (counts > 0)).sum(1)
    drawn = np.divide((rows * each).sum(1), held, out=np.full(_POOLED_DRAWS, np.nan), where=held > 0)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Pooled(float(means.mean()), float(low), float(high), **known)


def _grid(values: Mapping[tuple[Hashable, Hashable], float]) -> NDArray[np.float64]:
    """Lays values out as ``[targets, seeds]``, NaN where there is none; names and order of targets do not matter."""
    targets, seeds = (list(dict.fromkeys(key[side] for key in values)) for side in (0, 1))
    seeds.sort(key=str)
    grid = np.full((len(targets), len(seeds)), np.nan)
    for (target, seed), value in values.items():
        grid[targets.index(target), seeds.index(seed)] = value
    return grid[np.lexsort(grid.T[::-1])]


def _drawn(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Draws ``count`` of as many with replacement; returns how often each draw holds each, ``[draws, count]``."""
    drawn = rng.integers(0, count, (_POOLED_DRAWS, count)) + count * np.arange(_POOLED_DRAWS)[:, None]
    return np.bincount(drawn.ravel(), minlength=_POOLED_DRAWS * count).reshape(_POOLED_DRAWS, count)


def _beyond_seeds(grid: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Returns which means of ``[targets, seeds]`` differ from 0 by Student's t at 5 %; None if no target has two seeds.

    Targets share one variance between seeds, so that two seeds of twenty targets have twenty degrees of freedom.
    """
    counts = (~np.isnan(grid)).sum(1)
    degrees = int((counts - 1).sum())
    if degrees == 0:
        return None
    variance = np.nansum((grid - means[:, None]) ** 2) / degrees
    beyond: NDArray[np.bool_] = np.abs(means) > student(degrees) * np.sqrt(variance / counts)
    return beyond


@dataclass(frozen=True)
class Correlation:
    """Rank correlation with its 95 % interval.

    Args:
        value: Spearman's coefficient, in [-1, 1].
        low: Lower end of the interval; NaN with a single cluster.
        high: Upper end of the interval; NaN with a single cluster.
        count: Number of pairs of values.
        clusters: Number of clusters that the interval was bootstrapped over.
    """

    value: float
    low: float
    high: float
    count: int
    clusters: int


def correlation_within(
    first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable], clusters: Sequence[Hashable]
) -> Correlation | None:
    """Computes Spearman's correlation of what differs within groups: each value minus the mean of its group.

    The interval is a percentile bootstrap over whole clusters, since values of one cluster depend on each other. Its
    draws have a fixed seed.

    Args:
        first: Values.
        second: Values, in the same order.
        groups: Group of each pair; pairs that are alone in theirs are left out.
        clusters: Cluster of each pair.

    Returns:
        None if a side does not vary within any group.

    Example:
        >>> found = correlation_within([1, 2, 11, 13], [5, 6, 8, 9], "aabb", "aabb")
        >>> round(found.value, 3), found.count, found.clusters
        (0.894, 4, 2)
    """
    members: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    several = [places for places in members.values() if len(places) > 1]
    if not several:
        return None
    pairs = np.array([first, second], dtype=np.float64)
    within = np.concatenate([pairs[:, some] - pairs[:, some].mean(1, keepdims=True) for some in several], 1)
    within = within.round(_DIGITS)
    value = _spearman(within)
    if math.isnan(value):
        return None
    cluster_of = [clusters[place] for some in several for place in some]
    names = list(dict.fromkeys(cluster_of))
    if len(names) == 1:
        return Correlation(value, math.nan, math.nan, within.shape[1], 1)
    columns = [np.array([place for place, one in enumerate(cluster_of) if one == name]) for name in names]
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(names), len(names)) for _ in range(_DRAWS)]
    values = [_spearman(within[:, np.concatenate([columns[one] for one in draw])]) for draw in draws]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return Correlation(value, float(low), float(high), within.shape[1], len(names))


def _spearman(pairs: NDArray[np.float64]) -> float:
    """Pearson's correlation of ranks, ties sharing theirs; NaN if a row of ``[2, n]`` is constant."""
    require_extra("a correlation of ranks", "scipy", "scipy", "sweep")
    from scipy.stats import rankdata

    ranks = rankdata(pairs, axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(1))
    return float(ranks[0] @ ranks[1] / lengths.prod()) if lengths.all() else math.nan
