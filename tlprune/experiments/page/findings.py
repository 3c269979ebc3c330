"""Rows of the page's tables, from results alone: accuracies, winning subsets, costs, ablations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tlprune.experiments.claims import FEWEST_SEEDS, Winning, winning
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.statistics import Estimate
from tlprune.selection.selection import UNIT_WORDS

__all__ = [
    "CONTROLS",
    "AccuracyRow",
    "CostRow",
    "ablation_lines",
    "accuracy_rows",
    "cost_rows",
    "group_label",
    "leader",
    "shown_group",
    "units_of",
    "verdict",
    "was_run",
    "winning_rows",
]

CONTROLS = (NONE, "random", "reverse")
"""Methods that nobody proposes: others are held against them."""

_VOTING = ("label_mapping", "feature_mapping")

Verdict = Literal["better", "worse", "unclear", "unequal", "one seed", "two seeds", "so far"]


def verdict(found: Estimate, equal: bool = True) -> Verdict:
    """Whether a difference's 95 % interval lies to one side of zero.

    One or two seeds decide nothing, as for winning subsets. While a sweep runs, every difference is one ``so far``.

    Args:
        found: The difference.
        equal: Whether both trained on as many images for as many steps; else nothing is clear, but ``unequal``.
    """
    if not found.final:
        return "so far"
    if found.count < FEWEST_SEEDS:
        return "one seed" if found.count == 1 else "two seeds"
    if found.low > 0 or found.high < 0:
        return "unequal" if not equal else "better" if found.low > 0 else "worse"
    return "unclear"


def units_of(results: Results, method: str, count: int = 2) -> str:
    """What a method prunes: ``classes``, ``clusters``, ``single images``; in the singular for a ``count`` of 1."""
    words = UNIT_WORDS.get(results.methods[method].unit_kind, ("unit", "units"))
    return str(words[count != 1])


def group_label(results: Results, group: Group) -> str:
    """What a group is called in tables, its ratio apart."""
    return results.methods[group.method].label + (", equal steps" if group.match_budget == "steps" else "")


@dataclass(frozen=True)
class AccuracyRow:
    """A group in one mode of transfer.

    Args:
        group: What was run.
        label: What it is called.
        accuracy: On test images, in percent.
        to_none: Difference to no pruning in points, paired by seed; None without that, and for no pruning itself.
        to_random: The same to random pruning at the same ratio and length.
        equal: Whether random pruning trained on as many images for as many steps.
        images_kept: Median over seeds.
        units_kept: Median over seeds.
        steps: Median over seeds; None if they were not recorded.
    """

    group: Group
    label: str
    accuracy: Estimate
    to_none: Estimate | None
    to_random: Estimate | None
    equal: bool
    images_kept: int
    units_kept: int
    steps: int | None


def accuracy_rows(results: Results, target: str, mode: str) -> list[AccuracyRow]:
    """Every group of a target that has this mode, those of ablations too."""
    rows = []
    for group in results.groups(target):
        if not results.accuracies(group, mode):
            continue
        random = Group(target, "random", group.ratio, group.match_budget)
        cells = results.of(group)
        rows.append(
            AccuracyRow(
                group=group,
                label=group_label(results, group),
                accuracy=results.accuracy(group, mode),
                to_none=None if group.method == NONE else results.difference(group, Group(target, NONE), mode),
                to_random=None if group.method in (NONE, "random") else results.difference(group, random, mode),
                equal=results.equally_large(group, random),
                images_kept=round(median(cell.images_kept for cell in cells)),
                units_kept=round(median(cell.units_kept for cell in cells)),
                steps=_median_steps([cell.steps for cell in cells]),
            )
        )
    return rows


def _median_steps(steps: Sequence[int | None]) -> int | None:
    known = [one for one in steps if one is not None]
    return round(median(known)) if known else None


def was_run(results: Results, target: str, mode: str, method: str) -> bool:
    """Whether a method was run at equal epochs."""
    return any(results.accuracies(group, mode) for group in results.groups(target, method, "epochs"))


def winning_rows(results: Results) -> Iterator[tuple[str, dict[tuple[str, str], Winning]]]:
    """For each method that prunes, its winning subsets by target and mode, where it was run."""
    for method in results.compared:
        found = {
            (target, mode): winning(results, target, method, mode)
            for target in results.targets
            for mode in results.modes
            if was_run(results, target, mode, method)
        }
        if results.prunes(method) and found:
            yield method, found


@dataclass(frozen=True)
class CostRow:
    """What a group costs, in median seconds.

    Args:
        group: What was run.
        label: What it is called.
        uses_surrogate: Whether it needs a surrogate.
        surrogate: S.
        selection: L.
        pretraining: Pretraining on what is kept.
        saving: Share of the time of no pruning that is saved, all paid; None without that time.
        reused: The same with the surrogate at hand.
    """

    group: Group
    label: str
    uses_surrogate: bool
    surrogate: float
    selection: float
    pretraining: float
    saving: float | None
    reused: float | None

    @property
    def total(self) -> float:
        """All three together."""
        return self.surrogate + self.selection + self.pretraining


def cost_rows(results: Results, target: str) -> list[CostRow]:
    """What every group of a target costs."""
    return [
        CostRow(
            group,
            group_label(results, group),
            results.methods[group.method].uses_surrogate and group.method != NONE,
            *results.seconds(group),
            None if group.method == NONE else results.saving(group),
            None if group.method == NONE else results.saving(group, reused=True),
        )
        for group in results.groups(target)
    ]


def ablation_lines(results: Results, target: str, mode: str) -> dict[str, dict[str, list[tuple[str, Group]]]]:
    """What ablations varied: for each factor, lines of one ratio and one setting of all other factors.

    Args:
        results: All cells.
        target: Name of the target.
        mode: Groups without it are left out.

    Returns:
        By factor and by the line's name: levels in ascending order, or in that of the methods where they are no
        numbers, with the group of each.
    """
    found: dict[str, dict[str, list[tuple[str | float, Group]]]] = {}
    for method, info in results.methods.items():
        for factor, level in info.ablates.items():
            others = "".join(f", {name} {value}" for name, value in info.ablates.items() if name != factor)
            for group in results.groups(target, method):
                if results.accuracies(group, mode):
                    steps = ", equal steps" if group.match_budget == "steps" else ""
                    name = f"{group.ratio:.0%} pruned{others}{steps}"
                    found.setdefault(factor, {}).setdefault(name, []).append((level, group))
    for lines in found.values():
        for line in lines.values():
            if not any(isinstance(level, str) for level, _ in line):
                line.sort(key=lambda one: float(one[0]))
    return {
        factor: {
            name: [(level if isinstance(level, str) else f"{level:g}", group) for level, group in lines[name]]
            for name in sorted(lines)
        }
        for factor, lines in found.items()
    }


def leader(results: Results, target: str, mode: str) -> tuple[str, Winning] | None:
    """The method with the largest winning subset, controls apart; of several the one with more accuracy.

    Where none has a winning subset, the one whose claim is open at the largest ratio.

    Returns:
        Its name and its winning subset; None if every claim fails, or none was made.
    """
    found = []
    for method in results.compared:
        if method not in CONTROLS and results.prunes(method):
            won = winning(results, target, method, mode)
            claim = won.claim or won.open
            if claim is not None:
                found.append((won.ratio is not None, claim.ratio, claim.mean, method, won))
    if not found:
        return None
    *_, method, won = max(found, key=lambda one: one[:3])
    return method, won


def shown_group(results: Results, target: str) -> Group | None:
    """What pictures show: a method that votes and whose Selections are there, at its winning ratio if it has one.

    Returns:
        The leader's group if the leader votes and has a winning subset, else the first voting method's; at the middle
        ratio where there is no winning subset. None without any Selection.
    """
    there = [
        cell for cell in results.cells if cell.target == target and cell.selection and cell.match_budget == "epochs"
    ]
    methods = [name for name in results.compared if results.prunes(name) and any(cell.method == name for cell in there)]
    voting = [name for name in methods if name in _VOTING] or [name for name in methods if name not in CONTROLS]
    if not voting:
        return None
    mode = next(mode for mode in results.modes if any(mode in cell.scores for cell in there))
    best = leader(results, target, mode)
    method = best[0] if best is not None and best[1].ratio is not None and best[0] in voting else voting[0]
    ratios = sorted({cell.ratio for cell in there if cell.method == method})
    won = winning(results, target, method, mode).ratio
    return Group(target, method, won if won in ratios else ratios[len(ratios) // 2])
