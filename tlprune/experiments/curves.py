"""Figures of accuracy against the prune ratio, and against the factor of an ablation."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlprune.experiments.marks import Mark, marks_of
from tlprune.experiments.results import NONE, Group, MatchBudget, Results
from tlprune.experiments.statistics import Estimate
from tlprune.experiments.wording import mode_label
from tlprune.selection.figures import drawable
from tlprune.selection.selection import UNIT_WORDS

__all__ = ["ablation_figure", "accuracy_figure", "cost_figure"]

_SHAPES = "osDv^P"
_SHADES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7")


def accuracy_figure(results: Results, target: str, modes: Sequence[str], legend: bool = True) -> Figure:
    """Plots test accuracy against prune ratio, with one panel per transfer mode.

    Args:
        results: Results of the sweep; methods that belong to an ablation are left out.
        target: Name of the target.
        modes: Transfer modes, one panel each.
        legend: Whether to draw a legend.

    Returns:
        Figure with 95 % intervals and a line for no pruning.
    """
    figure = Figure(figsize=(5.2 * len(modes), 4.4 if legend else 3.6), layout="constrained")
    panels = figure.subplots(1, len(modes), squeeze=False)[0]
    methods = results.compared
    marks = marks_of(methods)
    pruned = [method for method in methods if method != NONE]
    ratios = sorted({cell.ratio for cell in results.cells if cell.target == target and cell.method in pruned})
    gap = min((100 * (b - a) for a, b in pairwise(ratios)), default=20.0)
    step = min(1.0, 0.66 * gap / max(len(pruned), 1))
    for axes, mode in zip(panels, modes, strict=True):
        means = _no_pruning(axes, results, target, mode)
        for place, method in enumerate(pruned):
            for match_budget in ("epochs", "steps"):
                offset = (place - (len(pruned) - 1) / 2) * step + (step / 2 if match_budget == "steps" else 0)
                means += _line(axes, results, target, mode, method, marks[method], match_budget, offset)
        _limit(axes, means)
        axes.set_xticks([100 * ratio for ratio in ratios])
        if ratios:
            axes.set_xlim(100 * ratios[0] - max(gap / 2, 4), 100 * ratios[-1] + max(gap / 2, 4))
        axes.set_xlabel(f"{_units(results, pruned)} pruned (%)")
        axes.set_title(drawable(f"{mode_label(mode, results.recipes)} on {target}"), fontsize=11)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test accuracy (%), 95 % interval")
    if legend:
        named = dict(zip(*reversed(panels[-1].get_legend_handles_labels()), strict=True))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _line(
    axes: Axes,
    results: Results,
    target: str,
    mode: str,
    method: str,
    mark: Mark,
    match_budget: MatchBudget,
    offset: float,
) -> list[Estimate]:
    """Draws a method and returns the drawn estimates."""
    groups = [one for one in results.groups(target, method, match_budget) if results.accuracies(one, mode)]
    found = [results.accuracy(group, mode) for group in groups]
    if found:
        steps = match_budget == "steps"
        axes.errorbar(
            [100 * group.ratio + offset for group in groups],
            [one.mean for one in found],
            [0 if one.count == 1 else one.half_width for one in found],
            color=mark.colour,
            marker=mark.shape,
            markersize=5.5,
            markerfacecolor="white" if steps else mark.colour,
            linestyle="none" if steps else "-",
            linewidth=1.4,
            elinewidth=1,
            capsize=2,
            label=drawable(results.methods[method].label) + (", equal steps" if steps else ""),
        )
    return found


def ablation_figure(results: Results, target: str, mode: str, lines: dict[str, list[tuple[str, Group]]]) -> Figure:
    """Plots test accuracy against the factor of an ablation.

    Args:
        results: Results of the sweep.
        target: Name of the target.
        mode: Transfer mode.
        lines: Lines by name; each lists the levels of the factor with their groups.

    Returns:
        Figure with 95 % intervals and a line for no pruning; levels are equally spaced.
    """
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.subplots()
    levels = list(dict.fromkeys(level for line in lines.values() for level, _ in line))
    means = _no_pruning(axes, results, target, mode)
    for place, (name, line) in enumerate(lines.items()):
        found = [results.accuracy(group, mode) for _, group in line]
        means += found
        axes.errorbar(
            [levels.index(level) + 0.06 * (place - (len(lines) - 1) / 2) for level, _ in line],
            [one.mean for one in found],
            [0 if one.count == 1 else one.half_width for one in found],
            color=_SHADES[place % len(_SHADES)],
            marker=_SHAPES[place % len(_SHAPES)],
            linewidth=1.4,
            capsize=2,
            label=drawable(name),
        )
    _limit(axes, means)
    axes.set_xticks(range(len(levels)), [drawable(level) for level in levels])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    axes.set_ylabel("test accuracy (%), 95 % interval")
    axes.set_title(drawable(f"{mode_label(mode, results.recipes)} on {target}"), fontsize=11)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    return figure


def cost_figure(results: Results, target: str, method: str) -> Figure:
    """Plots seconds of surrogate, selection and pretraining against prune ratio, next to no pruning.

    Args:
        results: Results of the sweep, including no pruning.
        target: Name of the target.
        method: Method whose cost is plotted, at equal epochs.

    Returns:
        Figure with stacked bars and the saved share above each bar.
    """
    groups = [Group(target, NONE), *results.groups(target, method, "epochs")]
    figure = Figure(figsize=(6.5, 4.4), layout="constrained")
    axes = figure.subplots()
    names = ["no pruning" if group.method == NONE else f"{group.ratio:.0%} pruned" for group in groups]
    parts = list(zip(*(results.seconds(group) for group in groups), strict=True))
    bottom = [0.0] * len(groups)
    stages = (("surrogate", "#56b4e9"), ("selection", "#cc79a7"), ("pretraining", "#0072b2"))
    for (stage, colour), heights in zip(stages, parts, strict=True):
        axes.bar(names, heights, bottom=bottom, color=colour, label=stage, width=0.6)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for place, (group, height) in enumerate(zip(groups, bottom, strict=True)):
        saving = None if group.method == NONE else results.saving(group)
        text = f"{height:.1f} s" if saving is None else f"{height:.1f} s\n{saving:.0%} saved"
        axes.annotate(text, (place, height), ha="center", va="bottom", fontsize=9)
    label = results.methods[method].label
    axes.set(ylabel="seconds, median over seeds", title=drawable(f"What pretraining costs with {label} for {target}"))
    axes.set_ylim(0, max(bottom) * 1.2)
    axes.legend(fontsize=9)
    return figure


def _no_pruning(axes: Axes, results: Results, target: str, mode: str) -> list[Estimate]:
    whole = Group(target, NONE)
    if not results.accuracies(whole, mode):
        return []
    bar = results.accuracy(whole, mode)
    axes.axhline(bar.mean, color="#000000", linewidth=1.2, label="no pruning")
    if bar.count > 1:
        axes.axhspan(bar.low, bar.high, color="#000000", alpha=0.12, linewidth=0)
    return [bar]


def _limit(axes: Axes, found: Sequence[Estimate]) -> None:
    """Limits the axis so that wide intervals of few seeds do not flatten the means; percentages stay in [0, 100]."""
    if not found:
        return
    means = [one.mean for one in found]
    margin = max(2.0, 0.5 * (max(means) - min(means)))
    ends: list[Any] = [end for one in found if one.count > 1 for end in (one.low, one.high)]
    low = max(min([*means, *ends]), min(means) - margin, 0)
    high = min(max([*means, *ends]), max(means) + margin, 100)
    space = 0.04 * (high - low) + 0.2
    axes.set_ylim(low - space, high + space)


def _units(results: Results, methods: Sequence[str]) -> str:
    """Returns the unit that is pruned: a single word if all methods prune the same kind."""
    kinds = {results.methods[method].unit_kind for method in methods if method != "random"}
    return UNIT_WORDS[kinds.pop()][1] if len(kinds) == 1 and kinds <= set(UNIT_WORDS) else "units"
