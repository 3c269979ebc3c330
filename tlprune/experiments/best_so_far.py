"""The best ratio of each method while a sweep runs, without a verdict."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from tlprune.experiments.claims import FEWEST_SEEDS
from tlprune.experiments.results import ALONE, AS_CONFIGURED, NONE, Group, Results
from tlprune.experiments.wording import interval_of, share, start_label

__all__ = ["Best", "best_so_far"]


@dataclass(frozen=True)
class Best:
    """The ratio of a method with the highest mean.

    Args:
        label: Name of the method, and of its start if a sweep names starts.
        pruned: Its ratio in percent; empty for a method that prunes nothing.
        points: Mean difference to no pruning in points of test accuracy, with its interval if there is one.
        support: What the mean is over.
    """

    label: str
    pruned: str
    points: str
    support: str


def best_so_far(results: Results) -> Iterator[Best]:
    """Finds the best ratio of each method by the first transfer mode, in the order of the methods.

    Means are over the targets and seeds that have both the method and no pruning. There is an interval from three seeds
    of one target, and from six targets.
    """
    mode = results.modes[0]
    whole = {
        (cell.start, cell.target, cell.seed): cell.scores[mode].test
        for cell in results.cells
        if cell.method == NONE and mode in cell.scores
    }
    found: dict[tuple[str, str], dict[Group, list[float]]] = {}
    for cell in results.cells:
        reference = whole.get((cell.start, cell.target, cell.seed))
        if cell.method not in (NONE, ALONE) and mode in cell.scores and reference is not None:
            groups = found.setdefault((cell.start, cell.method), {})
            groups.setdefault(replace(cell.group, target=""), []).append(cell.scores[mode].test - reference)
    order = list(results.methods)
    for start, method in sorted(found, key=lambda key: (results.starts.index(key[0]), order.index(key[1]))):
        groups = found[start, method]
        group = max(groups, key=lambda group: fmean(groups[group]))
        label = results.methods[method].label + ("" if start == AS_CONFIGURED else f", {start_label(start)}")
        label += " =" if group.match_budget == "steps" else ""
        yield Best(label, share(group.ratio) if group.ratio else "", *_points(results, group, groups[group], mode))


def _points(results: Results, group: Group, values: list[float], mode: str) -> tuple[str, str]:
    targets = {cell.target for cell in results.of(group)}
    mean = f"{fmean(values):+.1f}"
    if len(targets) == 1:
        [target] = targets
        found = results.difference(replace(group, target=target), Group(target, NONE, start=group.start), mode)
        if found is not None and found.count >= FEWEST_SEEDS:
            return f"{mean} {interval_of(found)}", f"over {found.count} seeds"
        return mean, f"over {len(values)} {'seed' if len(values) == 1 else 'seeds'}, no interval yet"
    over = f"over {len(values)} cells of {len(targets)} targets"
    pooled = results.pooled(group, Group("", NONE, start=group.start), mode)
    if pooled is None or not pooled.enough_targets:
        return mean, f"{over}, no interval yet"
    return f"{pooled.mean:+.1f} {interval_of(pooled)}", over
