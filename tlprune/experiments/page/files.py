"""The report's numbers for other programs: CSV for spreadsheets, LaTeX for papers."""

import csv
import io
from collections.abc import Sequence

from tlprune.experiments.claims import Winning
from tlprune.experiments.page.diagnostics import DIAGNOSTICS
from tlprune.experiments.page.findings import accuracy_rows, cost_rows, verdict, winning_rows
from tlprune.experiments.pooled import PooledDifference, controls_of, pooled_rows
from tlprune.experiments.results import Results
from tlprune.experiments.statistics import FEWEST_TARGETS, Estimate
from tlprune.experiments.wording import mode_label, points_text

__all__ = ["cells_csv", "latex_tables", "latex_text", "pooled_csv", "summary_csv"]

_CELL = [
    "target",
    "method",
    "label",
    "ratio",
    "equal",
    "seed",
    "units_total",
    "units_kept",
    "images_total",
    "images_kept",
    "steps",
    "surrogate_seconds",
    "selection_seconds",
    "pretraining_seconds",
    "source_accuracy",
    *DIAGNOSTICS,
]
_ESCAPED = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%"}
_ESCAPED |= {
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


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
    return _csv([*_CELL, "mode", "val_accuracy", "test_accuracy", "transfer_seconds"], rows)


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
    return _csv(headings, rows)


def pooled_csv(results: Results) -> str:
    """One row for each method, ratio, length and mode of transfer: differences over all targets and seeds."""
    headings = ["method", "label", "ratio", "equal", "mode", "images_kept", "steps", "test_accuracy"]
    names = controls_of(results)
    for other in names:
        headings += [f"minus_{other}{end}" for end in ("", "_low_95", "_high_95", "_won", "_lost", "_verdict")]
    rows = []
    for row in pooled_rows(results):
        group = row.group
        found: list[object] = [group.method, results.methods[group.method].label, group.ratio, group.match_budget]
        found += [row.mode, row.images, row.steps, row.accuracy]
        for one in row.differences:
            found += [None] * 6 if one is None else _pooled(one)
        rows.append(found)
    return _csv(headings, rows)


def _pooled(found: PooledDifference) -> list[object]:
    points = found.points
    ends = [points.low, points.high] if points.enough_targets else [None, None]
    return [points.mean, *ends, points.won, points.lost, found.verdict]


def latex_tables(results: Results) -> str:
    """Winning subsets, accuracies and costs, as tables for the package booktabs; differences over all targets first."""
    winning = list(winning_rows(results))
    places = [(target, mode) for target in results.targets for mode in results.modes]
    places = [place for place in places if any(place in found for _, found in winning)]
    headings = ["method", *(f"{target}, {mode_label(mode, results.recipes)}" for target, mode in places)]
    rows = [
        [latex_text(results.methods[method].label), *(_winning(found.get(place)) for place in places)]
        for method, found in winning
    ]
    margin = points_text(results.margin)
    caption = (
        "Winning subsets: the largest prune ratio at which the 95 % interval of the difference to no pruning, on test "
    )
    caption += f"images, lies above -{margin}, and at each smaller ratio; in brackets that difference in points."
    tables = [_latex(caption, headings, rows)]
    if len(results.targets) > 1:
        tables.insert(0, _pooled_latex(results))
    for target in results.targets:
        modes = [mode for mode in results.modes if accuracy_rows(results, target, mode)]
        by_group: dict[object, list[str]] = {}
        for place, mode in enumerate(modes):
            for row in accuracy_rows(results, target, mode):
                first = [latex_text(row.label), f"{100 * row.group.ratio:.4g}"]
                cells = by_group.setdefault(row.group, first + [""] * len(modes))
                cells[2 + place] = _plus_minus(row.accuracy)
        headings = ["method", "pruned (%)", *(mode_label(mode, results.recipes) for mode in modes)]
        caption = f"Test accuracy on {target} in percent, mean over seeds with 95 % interval."
        tables.append(_latex(caption, headings, list(by_group.values())))
        headings = ["method", "pruned (%)", "S (s)", "L (s)", "P (s)", "saved (%)", "surrogate at hand (%)"]
        costs = []
        for cost in cost_rows(results, target):
            numbers = [f"{one:.4g}" for one in (cost.surrogate, cost.selection, cost.pretraining)]
            saved = ["--" if one is None else f"${100 * one:.0f}$" for one in (cost.saving, cost.reused)]
            costs.append([latex_text(cost.label), f"{100 * cost.group.ratio:.4g}", *numbers, *saved])
        caption = f"Cost for {target}: median seconds of surrogate (S), selection (L) and pretraining (P)."
        tables.append(_latex(caption, headings, costs))
    return "% needs \\usepackage{booktabs}\n\n" + "\n".join(tables)


def latex_text(text: str) -> str:
    """A name as LaTeX prints it: nothing in it is a command, and it stays on one line."""
    plain = text.encode(errors="backslashreplace").decode()
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())
    return "".join(_ESCAPED.get(letter, letter) for letter in plain)


def _csv(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()


def _estimate(found: Estimate) -> list[object]:
    return [found.mean, *((None, None) if found.count == 1 else (found.low, found.high))]


def _plus_minus(found: Estimate) -> str:
    return f"${found.mean:.1f}$" if found.count == 1 else f"${found.mean:.1f} \\pm {found.half_width:.1f}$"


def _winning(found: Winning | None) -> str:
    if found is None:
        return "--"
    if (claim := found.claim) is None:
        return "none" if found.open is None else "open"
    return f"{100 * claim.ratio:.4g}\\,\\% (${claim.mean:+.1f}\\,[{claim.low:+.1f}, {claim.high:+.1f}]$)"


def _pooled_latex(results: Results) -> str:
    names = [results.methods[name].label for name in controls_of(results)]
    headings = ["method", "pruned (%)", "equal", "transfer", "accuracy", *(f"minus {name}" for name in names)]
    rows = []
    for row in pooled_rows(results):
        label = latex_text(results.methods[row.group.method].label)
        first = [
            label,
            f"{100 * row.group.ratio:.4g}",
            row.group.match_budget,
            latex_text(mode_label(row.mode, results.recipes)),
        ]
        rows.append([*first, f"${row.accuracy:.1f}$", *map(_pooled_points, row.differences)])
    caption = f"Differences over {len(results.targets)} targets in points of test accuracy, "
    if len(results.targets) >= FEWEST_TARGETS:
        caption += "with the 95 % interval of a two-way bootstrap over targets and seeds."
    else:
        caption += f"without intervals, since fewer than {FEWEST_TARGETS} targets carry none."
    return _latex(caption, headings, rows)


def _pooled_points(found: PooledDifference | None) -> str:
    if found is None:
        return "--"
    points = found.points
    interval = f"\\,[{points.low:+.1f}, {points.high:+.1f}]" if points.enough_targets else ""
    return f"${points.mean:+.1f}{interval}$"


def _latex(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [
        r"\begin{table}",
        rf"  \caption{{{latex_text(caption)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(latex_text, headings))} \\\\",
        r"    \midrule",
        *(f"    {' & '.join(row)} \\\\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines)
