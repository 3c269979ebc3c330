"""Comparison of what a sweep's pretrainings start from: each start with the first one, and with its weights alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from tlprune.experiments.page.findings import verdict
from tlprune.experiments.results import ALONE, AS_CONFIGURED, NONE, SCRATCH, Group, Results
from tlprune.experiments.statistics import Estimate, Pooled, estimate
from tlprune.experiments.wording import difference, pooled_text, some_targets, start_label, target_labels

__all__ = [
    "StartRow",
    "compares_starts",
    "difference_text",
    "difference_verdict",
    "first_label",
    "row_target",
    "start_rows",
]


@dataclass(frozen=True)
class StartRow:
    """A group in one mode of transfer, beside the same from the first start, and beside the weights alone.

    Args:
        group: Target, method, ratio, length and start; the target is empty for all targets together.
        mode: Transfer mode.
        targets: Number of targets that have it.
        accuracy: Mean test accuracy in percent, with its interval over seeds; without one over targets.
        to_first: Difference in points to the same method, ratio and length from the first start. Weights alone are
            compared with the weights alone of the first start; with no pruning if that start is random weights.
        to_alone: Difference to the weights that the group starts from, without pretraining on the source.
    """

    group: Group
    mode: str
    targets: int
    accuracy: Estimate
    to_first: Estimate | Pooled | None
    to_alone: Estimate | Pooled | None


def compares_starts(results: Results) -> bool:
    """Returns whether a sweep names its starts, so that there is something to compare."""
    return results.starts not in ([], [AS_CONFIGURED])


def first_label(results: Results) -> str:
    """Returns what the start is called that others are compared with."""
    return start_label(results.starts[0])


def start_rows(results: Results, mode: str) -> Iterator[StartRow]:
    """Compares starts over all targets, if there are several, and then for each target, method, length and ratio.

    Intervals of one target are those of Student's t over seeds, those over targets of the two-way bootstrap.
    """
    order = results.starts
    for target in [*([""] if len(results.targets) > 1 else []), *results.targets]:
        groups = results.groups(target) if target else results.groups_over_targets()
        compared = [group for group in groups if group.method in results.compared]
        for group in sorted(compared, key=lambda group: order.index(group.start)):
            if found := results.accuracies(group, mode):
                accuracy = estimate(found) if target else estimate([fmean(found)])
                held = (_difference(results, group, other, mode) for other in _references(results, group))
                count = len({cell.target for cell in results.of(group) if mode in cell.scores})
                yield StartRow(group, mode, count, accuracy, *held)


def row_target(results: Results, row: StartRow) -> str:
    """What a row's target is called: ``all 10 targets``, or ``over 7 of 10 targets`` where some lack it."""
    total = len(results.targets)
    if row.group.target:
        return target_labels(results.targets)[row.group.target]
    return some_targets(row.targets, total) or f"all {total} targets"


def difference_text(found: Estimate | Pooled | None) -> str:
    """A difference in points: ``+2.4 [+0.3, +4.6]``, over targets with the number of targets above 0."""
    return pooled_text(found) if isinstance(found, Pooled) else difference(found)


def difference_verdict(found: Estimate | Pooled) -> str:
    """Whether the interval lies to one side of zero, as in :func:`verdict` and :attr:`Pooled.verdict`."""
    return found.verdict if isinstance(found, Pooled) else verdict(found)


def _references(results: Results, group: Group) -> tuple[Group | None, Group | None]:
    """Returns the groups of the first start, and of the weights alone, that a group is compared with."""
    first, own = results.starts[0], group.start
    alone = Group(group.target, ALONE, start=own)
    if group.method == ALONE:
        reference = Group(group.target, NONE if first == SCRATCH else ALONE, start=first)
        return (None if own == first else reference), None
    return (None if own == first else replace(group, start=first)), alone


def _difference(results: Results, group: Group, other: Group | None, mode: str) -> Estimate | Pooled | None:
    if other is None:
        return None
    return results.difference(group, other, mode) if group.target else results.pooled(group, other, mode)
