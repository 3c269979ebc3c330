"""Diagnostics of what cells keep: by method, and how well each of them foretells the accuracy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, median

from tlprune.experiments.page.findings import group_label
from tlprune.experiments.results import Cell, Results
from tlprune.experiments.statistics import Correlation, correlation_within
from tlprune.experiments.wording import mode_label, some_targets
from tlprune.selection.diagnostics import Diagnostics

__all__ = ["DIAGNOSTICS", "DiagnosticsRow", "DiagnosticsTable", "diagnostics_table"]

DIAGNOSTICS = tuple(field.name for field in fields(Diagnostics))
"""Names of the numbers, in the order of tables."""


@dataclass(frozen=True)
class DiagnosticsRow:
    """Means over the cells of a method at one ratio, over all targets and seeds.

    Args:
        label: Display name of the method, with the number of targets where some lack it.
        images_kept: Median over the cells.
        accuracy: Mean test accuracy by the deciding mode, in percent; None for random images.
        numbers: Mean of each number, in the order of :data:`DIAGNOSTICS`.
    """

    label: str
    images_kept: int
    accuracy: float | None
    numbers: list[float]


@dataclass(frozen=True)
class DiagnosticsTable:
    """Part of the page about diagnostics.

    Args:
        ratio: Ratio of the rows, the middle one of those that were run.
        mode: Display name of the deciding mode of transfer.
        rows: Methods that prune in display order, and as many random images.
        foretold: Text for each mode of transfer: how well each number foretells accuracy.
    """

    ratio: float
    mode: str
    rows: list[DiagnosticsRow]
    foretold: list[str]


def diagnostics_table(results: Results) -> DiagnosticsTable | None:
    """Collects diagnostics of all cells; None if no cell has any."""
    known = [cell for cell in results.cells if cell.diagnostics and set(DIAGNOSTICS) <= set(cell.diagnostics)]
    shown = [cell for cell in known if cell.match_budget == "epochs" and cell.method in results.compared]
    if not shown:
        return None
    ratios = sorted({cell.ratio for cell in shown})
    ratio = ratios[len(ratios) // 2]
    here = [cell for cell in shown if cell.ratio == ratio]
    rows = [
        _row(_named(results, group_label(results, cells[0].group), cells), cells, results.modes[0], "")
        for method in results.compared
        if (cells := [cell for cell in here if cell.method == method])
    ]
    references = [cell for cell in here if all(f"random_{name}" in (cell.diagnostics or {}) for name in DIAGNOSTICS)]
    if references:
        rows.append(_row(_named(results, "as many random images", references), references, None, "random_"))
    mode = mode_label(results.modes[0], results.recipes)
    return DiagnosticsTable(ratio, mode, rows, list(_foretold(results, known)))


def _named(results: Results, label: str, cells: Sequence[Cell]) -> str:
    some = some_targets(len({cell.target for cell in cells}), len(results.targets))
    return ", ".join(filter(None, [label, some]))


def _row(label: str, cells: Sequence[Cell], mode: str | None, prefix: str) -> DiagnosticsRow:
    accuracies = [cell.scores[mode].test for cell in cells if mode in cell.scores]
    numbers = [fmean((cell.diagnostics or {})[prefix + name] for cell in cells) for name in DIAGNOSTICS]
    kept = round(median(cell.images_kept for cell in cells))
    return DiagnosticsRow(label, kept, fmean(accuracies) if accuracies else None, numbers)


def _foretold(results: Results, known: Sequence[Cell]) -> Iterator[str]:
    """Yields a sentence for each mode of transfer in which the number of methods allows one."""
    for mode in results.modes:
        cells = [cell for cell in known if mode in cell.scores]
        accuracies = [cell.scores[mode].test for cell in cells]
        groups = [(cell.target, cell.seed, cell.ratio, cell.match_budget) for cell in cells]
        targets = [cell.target for cell in cells]
        found = {
            name: correlation_within([(cell.diagnostics or {})[name] for cell in cells], accuracies, groups, targets)
            for name in DIAGNOSTICS
        }
        counted = [one for one in found.values() if one is not None]
        if counted:
            count, clusters = counted[0].count, counted[0].clusters
            of = f"{count} cells of {clusters} {'target' if clusters == 1 else 'targets'}"
            said = ", ".join(f"{name} {_written(one)}" for name, one in found.items())
            yield f"By {mode_label(mode, results.recipes)}, over {of}: {said}."


def _written(found: Correlation | None) -> str:
    if found is None:
        return "does not vary"
    return f"{found.value:+.2f}" + (f" [{found.low:+.2f}, {found.high:+.2f}]" if found.clusters > 1 else "")
