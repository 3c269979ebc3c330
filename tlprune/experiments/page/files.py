"""The report's numbers for other programs, as CSV."""

from tlprune.experiments.page.diagnostics import DIAGNOSTICS
from tlprune.experiments.page.findings import accuracy_rows, cost_rows, verdict
from tlprune.experiments.pooled import PooledDifference, controls_of, pooled_rows
from tlprune.experiments.results import Results
from tlprune.experiments.statistics import Estimate
from tlprune.storage.as_csv import as_csv

__all__ = ["cells_csv", "pooled_csv", "summary_csv"]

_CELL = ["target", "method", "label", "ratio", "equal", "seed", "units_total", "units_kept", "images_total"]
_CELL += ["images_kept", "steps"]
_CELL += ["surrogate_seconds", "selection_seconds", "pretraining_seconds", "source_accuracy", *DIAGNOSTICS]


def cells_csv(results: Results) -> str:
    """One row for each cell and mode of transfer: everything that was measured."""
    rows = []
    for cell in results.cells:
        known = {"label": results.methods[cell.method].label, "equal": cell.match_budget} | vars(cell)
        known |= dict.fromkeys(DIAGNOSTICS) | (cell.diagnostics or {})
        for mode in results.modes:
            if mode in cell.scores:
                score = cell.scores[mode]
                rows.append([known[name] for name in _CELL] + [mode, score.val, score.test, score.seconds])
    return as_csv([*_CELL, "mode", "val_accuracy", "test_accuracy", "transfer_seconds"], rows)


def summary_csv(results: Results) -> str:
    """One row for each group and mode of transfer: means, intervals, differences, verdicts, median seconds, savings."""
    headings = ["target", "method", "label", "ratio", "equal", "mode", "seeds", "units_kept", "images_kept", "steps"]
    headings += ["test_accuracy", "low_95", "high_95"]
    for other in ("none", "random"):
        headings += [f"minus_{other}", f"minus_{other}_low_95", f"minus_{other}_high_95", f"minus_{other}_verdict"]
    headings += ["surrogate_seconds", "selection_seconds", "pretraining_seconds", "saving", "saving_surrogate_reused"]
    rows = []
    for target in results.targets:
        costs = {row.group: row for row in cost_rows(results, target)}
        for mode in results.modes:
            for row in accuracy_rows(results, target, mode):
                group, cost = row.group, costs[row.group]
                found: list[object] = [target, group.method, results.methods[group.method].label, group.ratio]
                found += [group.match_budget, mode, row.accuracy.count, row.units_kept, row.images_kept, row.steps]
                found += _estimate(row.accuracy)
                for one, equal in ((row.to_none, True), (row.to_random, row.equal)):
                    found += [None] * 4 if one is None else [*_estimate(one), verdict(one, equal)]
                found += [cost.surrogate, cost.selection, cost.pretraining, cost.saving, cost.reused]
                rows.append(found)
    return as_csv(headings, rows)


def pooled_csv(results: Results) -> str:
    """One row for each method, ratio, length and mode of transfer: differences over all targets and seeds."""
    headings = ["method", "label", "ratio", "equal", "mode", "targets", "images_kept", "steps", "test_accuracy"]
    names = controls_of(results)
    for other in names:
        headings += [
            f"minus_{other}{end}" for end in ("", "_low_95", "_high_95", "_targets", "_won", "_lost", "_verdict")
        ]
    rows = []
    for row in pooled_rows(results):
        group = row.group
        found: list[object] = [group.method, results.methods[group.method].label, group.ratio, group.match_budget]
        found += [row.mode, row.targets, row.images, row.steps, row.accuracy]
        for one in row.differences:
            found += [None] * 7 if one is None else _pooled(one)
        rows.append(found)
    return as_csv(headings, rows)


def _pooled(found: PooledDifference) -> list[object]:
    points = found.points
    ends = [points.low, points.high] if points.enough_targets else [None, None]
    return [points.mean, *ends, points.targets, points.won, points.lost, found.verdict]


def _estimate(found: Estimate) -> list[object]:
    return [found.mean, *((None, None) if found.count == 1 else (found.low, found.high))]
