"""Figure of the difference to no pruning over all targets: each target faint, their mean in front."""

from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tlprune.experiments.marks import Mark, marks_of
from tlprune.experiments.pooled import RANDOM
from tlprune.experiments.results import NONE, Group, MatchBudget, Results
from tlprune.experiments.statistics import Pooled
from tlprune.experiments.wording import mode_label
from tlprune.selection.figures import drawable

__all__ = ["pooled_figure"]

_COLUMNS = 3
_FAINT = 0.22
_MIDDLE = 50


def pooled_figure(results: Results, mode: str) -> Figure:
    """Plots the difference to no pruning against the prune ratio, with a panel for each method.

    Args:
        results: Finished cells of several targets, no pruning among them.
        mode: Transfer mode.

    Returns:
        Figure: a faint line for each target, the mean with its 95 % interval in front, random pruning dashed, and the
        margin of a winning subset dotted. Hollow marks trained for as many steps as no pruning. Beside a mean that
        some targets lack stands over how many it is.
    """
    methods = [name for name in results.compared if results.prunes(name) and results.groups_over_targets(name)]
    marks = marks_of(results.compared)
    shown = [name for name in methods if name != RANDOM] or methods
    columns = min(len(shown), _COLUMNS)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 3.1 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(panels.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        method = shown[place]
        axes.axhline(0, color="#000000", linewidth=1)
        axes.axhline(-results.margin, color="#000000", linewidth=0.8, linestyle=":")
        for match_budget in ("epochs", "steps"):
            _draw(axes, results, mode, method, marks[method], match_budget)
        if RANDOM in methods and method != RANDOM:
            _draw_random(axes, results, mode)
        axes.set_title(drawable(results.methods[method].label), fontsize=10)
        axes.grid(alpha=0.25)
        if place + columns >= len(shown):
            axes.set_xlabel("pruned (%)")
            axes.tick_params(labelbottom=True)
    for row in panels:
        row[0].set_ylabel("points minus no pruning")
    title = f"{mode_label(mode, results.recipes)} on {len(results.targets)} targets"
    if any(axes.texts for axes in panels.flat):
        title += "; numbers: a mean over some of them"
    figure.suptitle(drawable(title), fontsize=11)
    return figure


def _draw(axes: Axes, results: Results, mode: str, method: str, mark: Mark, match_budget: MatchBudget) -> None:
    filled = match_budget == "epochs"
    series = results.groups_over_targets(method, match_budget)
    start = [(0.0, 0.0)] if filled else []
    for target in results.targets:
        whole = Group(target, NONE)
        found = [(one.ratio, results.difference(replace(one, target=target), whole, mode)) for one in series]
        line = start + [(100 * ratio, points.mean) for ratio, points in found if points is not None]
        if len(line) > len(start):
            style, dot = ("-", "") if filled else ("none", ".")
            axes.plot(
                *zip(*line, strict=True), color=mark.colour, alpha=_FAINT, linewidth=0.9, linestyle=style, marker=dot
            )
    means = [(100 * one.ratio, points) for one in series if (points := results.pooled(one, Group("", NONE), mode))]
    total = len(results.targets)
    for place, points in means:
        if points.targets < total:
            right = place < _MIDDLE
            offset = (5 if right else -5, 5 if filled else -11)
            axes.annotate(
                f"{points.targets} of {total}",
                (place, points.mean),
                offset,
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=7,
                zorder=4,
            )
    if means:
        axes.errorbar(
            [place for place, _ in means],
            [points.mean for _, points in means],
            [[_reach(points, -1) for _, points in means], [_reach(points, 1) for _, points in means]],
            color=mark.colour,
            marker=mark.shape,
            markersize=6,
            markerfacecolor=mark.colour if filled else "white",
            linestyle="-" if filled else "none",
            linewidth=2,
            elinewidth=1.6,
            capsize=3,
            zorder=3,
        )


def _reach(points: Pooled, side: int) -> float:
    """Length of an interval to one side; 0 for fewer targets than carry one."""
    if not points.enough_targets:
        return 0.0
    return points.high - points.mean if side > 0 else points.mean - points.low


def _draw_random(axes: Axes, results: Results, mode: str) -> None:
    series = results.groups_over_targets(RANDOM, "epochs")
    found = [(100 * one.ratio, points.mean) for one in series if (points := results.pooled(one, Group("", NONE), mode))]
    if found:
        axes.plot(
            *zip((0.0, 0.0), *found, strict=True), color="#555555", linestyle="--", linewidth=1.2, marker="_", zorder=2
        )
