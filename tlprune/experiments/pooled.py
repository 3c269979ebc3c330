"""Differences between methods over all targets and seeds of a sweep."""

from dataclasses import dataclass, replace

from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.statistics import Pooled

__all__ = ["PooledRow", "controls_of", "pooled_rows"]

RANDOM = "random"
"""Name of random pruning in a sweep."""


@dataclass(frozen=True)
class PooledRow:
    """One method at one ratio and length, by one transfer mode.

    Args:
        group: Method, ratio and length; its target is empty.
        mode: Transfer mode.
        images: Mean number of kept images.
        accuracy: Mean test accuracy over targets and seeds, in percent.
        differences: Difference in points to each of :func:`controls_of`; None where nothing can be compared.
    """

    group: Group
    mode: str
    images: float
    accuracy: float
    differences: tuple[Pooled | None, ...]


def controls_of(results: Results) -> list[str]:
    """Returns the methods that others are compared with: random pruning, if it was run, and no pruning."""
    return [name for name in (RANDOM, NONE) if name in results.methods]


def pooled_rows(results: Results) -> list[PooledRow]:
    """Compares every method with random and with no pruning, over all targets and seeds.

    Args:
        results: Finished cells.

    Returns:
        Rows by method, length, ratio and mode; no pruning has none.
    """
    order = list(results.methods)
    groups = {replace(cell.group, target="") for cell in results.cells if cell.method != NONE}
    rows = []
    for group in sorted(groups, key=lambda one: (order.index(one.method), one.match_budget, one.ratio)):
        cells = [cell for cell in results.cells if replace(cell.group, target="") == group]
        for mode in results.modes:
            scores = [cell.scores[mode].test for cell in cells if mode in cell.scores]
            if scores:
                images = sum(cell.images_kept for cell in cells) / len(cells)
                found = tuple(_difference(results, group, other, mode) for other in controls_of(results))
                rows.append(PooledRow(group, mode, images, sum(scores) / len(scores), found))
    return rows


def _difference(results: Results, group: Group, other: str, mode: str) -> Pooled | None:
    if group.method == other:
        return None
    control = replace(group, method=other)
    if other == NONE or group.ratio == 0:  # the whole source has one length
        control = replace(control, ratio=0.0, match_budget="epochs")
    return results.pooled(group, control, mode)
