"""Differences between methods over all targets and seeds of a sweep."""

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

from tlprune.experiments.results import NONE, Cell, Group, Results
from tlprune.experiments.statistics import Pooled
from tlprune.experiments.wording import some_targets

__all__ = ["RANDOM", "PooledDifference", "PooledRow", "controls_of", "pooled_difference", "pooled_rows"]

RANDOM = "random"
"""Name of random pruning in a sweep."""


@dataclass(frozen=True)
class PooledDifference:
    """Difference of one method to another over all targets and seeds.

    Args:
        points: Difference in points of test accuracy.
        equal: Whether both trained on as many images for as many steps; True where one is no pruning, which is a
            comparison of a part with the whole.
    """

    points: Pooled
    equal: bool

    @property
    def verdict(self) -> Literal["better", "worse", "unclear", "unequal", "so far"]:
        """Side of zero that the interval lies on; ``unequal`` if that may come from more images or steps."""
        found = self.points.verdict
        return found if found in ("unclear", "so far") or self.equal else "unequal"


@dataclass(frozen=True)
class PooledRow:
    """One method at one ratio and length, by one transfer mode.

    Args:
        group: Method, ratio and length; its target is empty.
        mode: Transfer mode.
        targets: Number of targets that have it.
        images: Mean number of kept images.
        steps: Mean number of optimiser steps; None if it is not recorded.
        accuracy: Mean test accuracy over targets and seeds, in percent.
        differences: Difference to each of :func:`controls_of`; None where nothing can be compared.
        some: Over how many targets it is, in words, where some lack it; else empty.
        some_compared: The same of each difference that is over other targets than the row.
    """

    group: Group
    mode: str
    targets: int
    images: float
    steps: float | None
    accuracy: float
    differences: tuple[PooledDifference | None, ...]
    some: str
    some_compared: tuple[str, ...]


def controls_of(results: Results) -> list[str]:
    """Returns the methods that others are compared with: random pruning, if it was run, and no pruning."""
    return [name for name in (RANDOM, NONE) if name in results.methods]


def pooled_rows(results: Results) -> list[PooledRow]:
    """Compares every method with random and with no pruning, over all targets and seeds.

    Returns:
        Rows by method, length, ratio and mode, no pruning first.
    """
    rows = []
    for group in results.groups_over_targets():
        cells = results.of(group)
        for mode in results.modes:
            scores = [cell.scores[mode].test for cell in cells if mode in cell.scores]
            if scores:
                targets = len({cell.target for cell in cells if mode in cell.scores})
                found = tuple(pooled_difference(results, group, other, mode) for other in controls_of(results))
                images = fmean(cell.images_kept for cell in cells)
                counts = [targets if one is None else one.points.targets for one in found]
                total = len(results.targets)
                compared = tuple("" if count == targets else some_targets(count, total) for count in counts)
                some = some_targets(targets, total)
                rows.append(
                    PooledRow(group, mode, targets, images, _steps(cells), fmean(scores), found, some, compared)
                )
    return rows


def pooled_difference(results: Results, group: Group, other: str, mode: str) -> PooledDifference | None:
    """Compares a group with a method at the same ratio and length; no pruning has one length.

    Args:
        results: Finished cells.
        group: Group with an empty target.
        other: Name of the other method.
        mode: Transfer mode.

    Returns:
        None if nothing can be compared.
    """
    if group.method in (NONE, other):
        return None
    control = replace(group, method=other)
    if other == NONE or group.ratio == 0:  # the whole source has one length
        control = replace(control, ratio=0.0, match_budget="epochs")
    points = results.pooled(group, control, mode)
    return None if points is None else PooledDifference(points, other == NONE or results.equally_large(group, control))


def _steps(cells: list[Cell]) -> float | None:
    steps = [cell.steps for cell in cells if cell.steps is not None]
    return fmean(steps) if len(steps) == len(cells) else None
