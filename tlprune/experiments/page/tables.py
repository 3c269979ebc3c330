"""The report's tables for papers and issues, as data that LaTeX and Markdown are written from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tlprune.experiments.claims import FEWEST_SEEDS, UNFINISHED, Winning
from tlprune.experiments.page.findings import AccuracyRow, accuracy_rows, cost_rows, group_label, winning_rows
from tlprune.experiments.pooled import RANDOM, PooledDifference, controls_of, pooled_difference, pooled_rows
from tlprune.experiments.results import NONE, Group, MatchBudget, Results
from tlprune.experiments.statistics import FEWEST_TARGETS, Estimate
from tlprune.experiments.wording import (
    difference,
    interval_of,
    interval_source,
    mode_label,
    percent,
    points_text,
    pooled_text,
    share,
    some_targets,
)

__all__ = ["Cell", "Number", "Table", "report_tables", "table_ratios"]

_COLUMNS = 6
"""Most targets beside each other: a page holds as many accuracies with their intervals."""

_UNEQUAL = " Unequal: images or steps differ by more than 1 %."


class Number(str):
    """A number with its interval, which LaTeX sets as mathematics."""


Cell = str | Number | tuple[str | Number, ...]
"""Content of a cell: text, a number, or parts with spaces between."""


@dataclass(frozen=True)
class Table:
    """A table with its caption.

    Args:
        caption: Sentences.
        headings: Headings of the columns.
        rows: Cells; the first of a row is its heading.
    """

    caption: str
    headings: list[str]
    rows: list[list[Cell]]


def table_ratios(results: Results) -> list[float]:
    """Returns the ratios that were run, in ascending order; one of them can be chosen for :func:`report_tables`."""
    return sorted({group.ratio for group in results.groups_over_targets() if results.prunes(group.method)})


def report_tables(results: Results, ratio: float | None = None) -> list[Table]:
    """Collects all tables.

    Args:
        results: All cells.
        ratio: Ratio of the tables of methods and targets, one of :func:`table_ratios`; None for the middle one.

    Returns:
        Of several targets the differences over all; methods and targets; winning subsets; accuracies, with a column
        for each target; costs of each target.
    """
    ratios = table_ratios(results)
    chosen = ratios[len(ratios) // 2] if ratio is None and ratios else ratio
    tables = [_pooled(results)] if len(results.targets) > 1 else []
    if chosen is not None:
        for mode in results.modes:
            tables += _methods_and_targets(results, chosen, mode)
    tables.append(_winning(results))
    for mode in results.modes:
        tables += _accuracies(results, mode)
    return [*tables, *(_cost(results, target) for target in results.targets)]


def _so_far(results: Results) -> str:
    return f" So far: {UNFINISHED}." if results.is_partial else ""


def _pooled(results: Results) -> Table:
    names = [results.methods[name].label for name in controls_of(results)]
    headings = ["method", "pruned (%)", "equal", "transfer", "accuracy", *(f"minus {name}" for name in names)]
    found = pooled_rows(results)
    rows: list[list[Cell]] = []
    for row in found:
        label = ", ".join(filter(None, [results.methods[row.group.method].label, row.some]))
        first = [label, f"{100 * row.group.ratio:.4g}", row.group.match_budget]
        compared = zip(row.differences, row.some_compared, strict=True)
        numbers = [Number(f"{row.accuracy:.1f}"), *(_pooled_points(*one) for one in compared)]
        rows.append([*first, mode_label(row.mode, results.recipes), *numbers])
    caption = f"Differences over {len(results.targets)} targets in points of test accuracy, {_over_targets(results)}."
    unequal = any(one is not None and not one.equal for row in found for one in row.differences)
    return Table(caption + (_UNEQUAL if unequal else "") + _so_far(results), headings, rows)


def _over_targets(results: Results) -> str:
    """What stands beside a mean over targets."""
    seeds = results.seeds()
    source = interval_source(len(results.targets), seeds)
    return f"with {source}" if source else f"without intervals, since fewer than {FEWEST_TARGETS} targets carry none"


def _methods_and_targets(results: Results, ratio: float, mode: str) -> Iterator[Table]:
    """Yields the differences to each control at one ratio: a row for each target, a column for each method."""
    rows = {
        target: {
            row.group: row
            for row in accuracy_rows(results, target, mode)
            if row.group.ratio == ratio and row.group.method in results.compared
        }
        for target in results.targets
    }
    for other in controls_of(results):
        known = {
            (target, row.group.method, row.group.match_budget): (found, row.equal or other == NONE)
            for target, of_target in rows.items()
            for row in of_target.values()
            if (found := _to(row, other)) is not None
        }
        groups = [
            group
            for group in results.groups_over_targets()
            if group.ratio == ratio and any(key[1:] == (group.method, group.match_budget) for key in known)
        ]
        if groups:
            cells = {key: _points(*value) for key, value in known.items()}
            yield _differences(results, other, mode, groups, cells)


def _to(row: AccuracyRow, other: str) -> Estimate | None:
    return row.to_random if other == RANDOM else row.to_none


def _differences(
    results: Results, other: str, mode: str, groups: list[Group], cells: dict[tuple[str, str, MatchBudget], Cell]
) -> Table:
    rows: list[list[Cell]] = [
        [target, *(cells.get((target, one.method, one.match_budget), "-") for one in groups)]
        for target in results.targets
        if any(key[0] == target for key in cells)
    ]
    label = results.methods[other].label
    control = "random pruning" if label == RANDOM else label  # alone it is no noun
    where = f"at {100 * groups[0].ratio:.4g} % pruned, by {mode_label(mode, results.recipes)}"
    caption = f"Differences to {control} {where}, in points of test accuracy: "
    seeds = max(results.seeds(results.groups(target)) for target in results.targets)
    if seeds >= FEWEST_SEEDS:
        caption += "means over seeds, with the 95 % interval of Student's t."
    else:
        of = "of one seed" if seeds == 1 else "means over two seeds"
        caption += f"{of}, without intervals, since fewer than {FEWEST_SEEDS} seeds decide nothing about one target."
    if len(results.targets) > 1:
        found = [pooled_difference(results, one, other, mode) for one in groups]
        total = len(results.targets)
        pooled = [_pooled_points(one, some_targets(one.points.targets, total) if one else "") for one in found]
        rows.append([f"all {len(results.targets)} targets", *pooled])
        caption += f" Last row: mean over targets, {_over_targets(results)}."
    unequal = any(isinstance(cell, tuple) and "unequal" in cell for row in rows for cell in row)
    headings = ["target", *(group_label(results, one) for one in groups)]
    return Table(caption + (_UNEQUAL if unequal else "") + _so_far(results), headings, rows)


def _points(found: Estimate, equal: bool) -> Cell:
    text = f"{found.mean:+.1f}" if found.count < FEWEST_SEEDS else difference(found)
    return Number(text) if equal else (Number(text), "unequal")


def _pooled_points(found: PooledDifference | None, some: str) -> Cell:
    """A mean over targets, with ``some``: over how many of them, where that has to be said."""
    if found is None:
        return "-"
    notes = [note for note in ("" if found.equal else "unequal", some) if note]
    text = Number(pooled_text(found.points, won=False))
    return (text, *notes) if notes else text


def _winning(results: Results) -> Table:
    found = list(winning_rows(results))
    places = [(target, mode) for target in results.targets for mode in results.modes]
    places = [place for place in places if any(place in of_method for _, of_method in found)]
    headings = ["method", *(f"{target}, {mode_label(mode, results.recipes)}" for target, mode in places)]
    rows: list[list[Cell]] = [
        [results.methods[method].label, *(_claimed(of_method.get(place)) for place in places)]
        for method, of_method in found
    ]
    caption = (
        "Winning subsets: the largest prune ratio at which the 95 % interval of the difference to no pruning, on test "
        f"images, lies above -{points_text(results.margin)}, and at each smaller ratio; in brackets that difference in "
        "points."
    )
    return Table(caption + _so_far(results), headings, rows)


def _claimed(found: Winning | None) -> Cell:
    if found is None:
        return "-"
    if (claim := found.claim) is None:
        return "none" if found.open is None else "open"
    return Number(f"{100 * claim.ratio:.4g} %"), Number(f"({claim.mean:+.1f} {interval_of(claim)})")


def _accuracies(results: Results, mode: str) -> Iterator[Table]:
    """Yields accuracies: a row for each method, ratio and length, a column for each target, as many as a page holds."""
    of_target = {target: found for target in results.targets if (found := accuracy_rows(results, target, mode))}
    by = mode_label(mode, results.recipes)
    several = results.seeds([row.group for found in of_target.values() for row in found]) > 1
    of = "means over seeds with 95 % intervals" if several else "of one seed"
    names = list(of_target)
    width = -(-len(names) // -(-len(names) // _COLUMNS)) if names else 1  # tables of equal width
    for targets in (names[place : place + width] for place in range(0, len(names), width)):
        known = {
            (replace(row.group, target=""), target): Number(percent(row.accuracy))
            for target in targets
            for row in of_target[target]
        }
        groups = [one for one in results.groups_over_targets() if any((one, target) in known for target in targets)]
        rows: list[list[Cell]] = [
            [
                group_label(results, group),
                f"{100 * group.ratio:.4g}",
                *(known.get((group, target), "-") for target in targets),
            ]
            for group in groups
        ]
        caption = f"Test accuracy by {by} in percent, {of}."
        yield Table(caption + _so_far(results), ["method", "pruned (%)", *targets], rows)


def _cost(results: Results, target: str) -> Table:
    headings = ["method", "pruned (%)", "S (s)", "L (s)", "P (s)", "saved (%)", "surrogate at hand (%)"]
    rows: list[list[Cell]] = []
    for cost in cost_rows(results, target):
        times = [f"{one:.4g}" for one in (cost.surrogate, cost.selection, cost.pretraining)]
        saved = ["-" if one is None else Number(share(one).rstrip("%")) for one in (cost.saving, cost.reused)]
        rows.append([cost.label, f"{100 * cost.group.ratio:.4g}", *times, *saved])
    return Table(
        f"Cost for {target}: median seconds of surrogate (S), selection (L) and pretraining (P).", headings, rows
    )
