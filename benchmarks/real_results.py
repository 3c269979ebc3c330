"""Writes the tables, numbers and figures about real images, on the pages of PAGES, from the results of the sweeps.

    python benchmarks/real_results.py

Results are in benchmarks/results/real/NAME/results.json, as configs/experiment/real_*.yaml leaves them. In the page a
line ``<!-- KIND NAME ARGUMENTS -->`` opens a table, which ends at ``<!-- end -->``; what lies between is written here.
Within a line ``<!-- points NAME MODE METHOD@RATIO OTHER@RATIO -->`` opens a difference, which ends alike.
"""

import argparse
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from tlprune.experiments.claims import winning
from tlprune.experiments.page.reading import read_runs
from tlprune.experiments.pooled import PooledDifference, PooledRow, controls_of, pooled_rows
from tlprune.experiments.pooled_curves import pooled_figure
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.statistics import Pooled
from tlprune.experiments.wording import difference, interval_of, mode_label, share, target_labels

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    ROOT / name
    for name in (
        "README.md",
        "docs/results.md",
        "docs/method.md",
        "docs/selection-evidence.md",
        "docs/which-selector.md",
    )
)
RESULTS = ROOT / "benchmarks" / "results" / "real"

_TABLE = re.compile(r"(<!-- (\w+) (\S+) ?([^\n>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)
_POINTS = re.compile(r"(<!-- points (\S+) (\S+) (\S+) (\S+) -->).*?(<!-- end -->)")


def written(page: str) -> str:
    """Returns the page with each of its tables and differences computed from the results that it names."""
    page = _POINTS.sub(lambda found: found[1] + one_difference(load(found[2]), *found.group(3, 4, 5)) + found[6], page)
    return _TABLE.sub(lambda found: found[1] + _written(found[2], found[3], *found[4].split()) + found[5], page)


def _written(kind: str, name: str, *arguments: str) -> str:
    return _OF_FILES[kind](name) if kind in _OF_FILES else _KINDS[kind](load(name), *arguments)


@cache
def load(name: str) -> Results:
    """Reads the results of an experiment; of several joined by ``+``, all their targets together."""
    found = read_runs([RESULTS / one for one in name.split("+")]).results
    if found is None:
        raise RuntimeError(f"{name}: no results")
    return found


def differences(results: Results, *modes: str) -> str:
    """Accuracy and differences over all targets; a row for each method and ratio, columns for each mode of transfer."""
    rows: dict[Group, list[PooledRow]] = {}
    for row in pooled_rows(results):
        if row.mode in modes:
            rows.setdefault(row.group, []).append(row)
    names = controls_of(results)
    heads = ["method", "pruned", "images", "steps"]
    for mode in modes:
        heads += [mode_label(mode, results.recipes), *(f"minus {results.methods[name].label}" for name in names)]
    lines = []
    ordered = sorted(rows, key=lambda one: (one.ratio, one.match_budget, -rows[one][0].accuracy))
    for group in ordered:
        first = rows[group][0]
        line = [_label(results, group), share(group.ratio), f"{first.images:,.0f}", f"{first.steps:,.0f}"]
        for row in rows[group]:
            line += [f"{row.accuracy:.1f}", *map(_points, row.differences)]
        lines.append(line)
    return _table(heads, lines, left=1)


def pairs(results: Results, ratio: str, *names: str) -> str:
    """Differences between methods, by modes that all targets have: ``names`` alternate candidate and other."""
    modes = [mode for mode in results.modes if all(mode in cell.scores for cell in results.cells)]
    heads = ["difference", *(mode_label(mode, results.recipes) for mode in modes)]
    lines = []
    for first, second in zip(names[::2], names[1::2], strict=True):
        a, b = Group("", first, float(ratio)), Group("", second, float(ratio))
        found = [results.pooled(a, b, mode) for mode in modes]
        labels = [results.methods[name].label for name in (first, second)]
        lines.append([f"{labels[0]} minus {labels[1]}", *map(_pooled, found)])
    return _table(heads, lines, left=1)


def one_difference(results: Results, mode: str, candidate: str, other: str) -> str:
    """One difference over all targets; a group is ``METHOD@RATIO`` or, for equal steps, ``METHOD@RATIO@steps``."""
    found = results.pooled(_group(candidate), _group(other), mode)
    if found is None:
        raise RuntimeError(f"no target and seed has both {candidate} and {other} by {mode}")
    return _pooled(found)


def targets(results: Results, mode: str, method: str) -> str:
    """One method for each target: difference to random and to no pruning at each ratio, means over seeds."""
    ratios = sorted({cell.ratio for cell in results.cells if cell.method == method})
    heads = ["target", "no pruning"]
    heads += [f"{share(ratio)}: minus {other}" for ratio in ratios for other in ("random images", "no pruning")]
    lines = []
    for target, label in target_labels(results.targets).items():
        line = [label, f"{results.accuracy(Group(target, NONE), mode).mean:.1f}"]
        for ratio in ratios:
            group = Group(target, method, ratio)
            for other in (replace(group, method="random"), Group(target, NONE)):
                found = results.difference(group, other, mode)
                line.append("-" if found is None else f"{found.mean:+.1f}")
        lines.append(line)
    return _table(heads, lines, left=1)


def searched(results: Results, mode: str) -> str:
    """What bisection ran for each target and what it found."""
    lines = []
    for target, label in target_labels(results.targets).items():
        for method, info in results.methods.items():
            if results.prunes(method):
                won = winning(results, target, method, mode)
                groups = results.groups(target, method, "epochs")
                found = [(one.ratio, results.difference(one, Group(target, NONE), mode)) for one in groups]
                found_of_val = [results.difference(one, Group(target, NONE), mode, "val") for one in groups]
                kept = [
                    one.ratio for one, of in zip(groups, found_of_val, strict=True) if of and of.mean >= -won.margin
                ]
                tried = ", ".join(f"{share(ratio)} {difference(points)}" for ratio, points in found)
                lines.append([label, info.label, share(max(kept, default=0.0)), tried])
    return _table(["target", "method", "largest by validation", "minus no pruning on test images"], lines, left=2)


def cost(name: str) -> str:
    """Seconds of surrogate (S), selection (L) and whole pretraining (T), and what each share of pruning saves."""
    found = json.loads((RESULTS.parent / f"{name}.json").read_text())
    surrogate, selection, whole = (found["seconds"][part] for part in "SLT")
    lines = []
    for ratio, saved in found["saving"].items():
        paper = {"0.2": "15 %", "0.8": "76 %"}.get(ratio, "-")
        times = [f"{surrogate:.1f} s", f"{selection:.2f} s", f"{whole:.0f} s", f"{100 * found['(S + L) / T']:.1f} %"]
        at_hand = found["saving_surrogate_at_hand"][ratio]
        lines.append([share(float(ratio)), *times, f"{100 * saved:.0f} %", f"{100 * at_hand:.0f} %", paper])
    return _table(["pruned", "S", "L", "T", "(S + L) / T", "saved", "surrogate at hand", "the paper's saving"], lines)


def surrogates(name: str) -> str:
    """What a surrogate costs, and which classes LM keeps by it, from benchmarks/results/NAME.json."""
    found = json.loads((RESULTS.parent / f"{name}.json").read_text())
    ratios = [f"{ratio:.0%} pruned" for ratio in found["ratios"]]
    lines = [
        [
            row["name"] + (", another seed" if place == 0 else ""),
            f"{row['S']:.1f} s",
            f"{100 * row['(S + L) / T']:.1f} %",
            *(f"{100 * one:.0f} %" for one in row["alike"]),
            *(f"{100 * one:.0f} %" for one in row["of another full seed's"]),
        ]
        for place, row in enumerate(found["rows"])
    ]
    return _table(["surrogate", "S", "(S + L) / T", *ratios, *(f"{one}, relative" for one in ratios)], lines, left=1)


def short(results: Results, mode: str, *methods: str) -> str:
    """Accuracy over all targets of a few methods at each ratio, for the first page."""
    lines = []
    for row in pooled_rows(results):
        group = row.group
        if row.mode == mode and group.method in (NONE, "random", *methods):
            kept = "the whole source" if group.method == NONE else f"{_label(results, group)}, {share(1 - group.ratio)}"
            random, whole = row.differences
            lines.append(
                (
                    -row.images,
                    -row.accuracy,
                    [kept, f"{row.images:,.0f}", f"{row.accuracy:.1f}", _points(random), _points(whole)],
                )
            )
    heads = ["pretrained on", "images", "accuracy, %", "minus random images", "minus the whole source"]
    return _table(heads, [line for *_, line in sorted(lines)], left=1)


def draw() -> None:
    """Draws the figures."""
    for name in ("superclasses", "targets"):
        figure = pooled_figure(load(name), "probe")
        figure.savefig(ROOT / "docs" / "images" / f"results-{name}.png", dpi=110, facecolor="white")


def _label(results: Results, group: Group) -> str:
    return results.methods[group.method].label + (", equal steps" if group.match_budget == "steps" else "")


def _group(name: str) -> Group:
    method, ratio, *budget = name.split("@")
    return Group("", method, float(ratio), "steps" if budget else "epochs")


def _points(found: PooledDifference | None) -> str:
    if found is None:
        return ""
    text = _pooled(found.points)
    return f"{text}, {found.points.won} of {found.points.targets}" + ("" if found.equal else ", unequal")


def _pooled(found: Pooled | None) -> str:
    if found is None:
        return ""
    text = f"{found.mean:+.1f} {interval_of(found)}" if found.enough_targets else f"{found.mean:+.1f}"
    return f"**{text}**" if found.verdict != "unclear" else text


def _table(heads: list[str], lines: list[list[str]], left: int = 0) -> str:
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, rule, *lines))


_KINDS = {
    "differences": differences,
    "pairs": pairs,
    "targets": targets,
    "searched": searched,
    "short": short,
}

_OF_FILES = {"cost": cost, "surrogates": surrogates}
"""Tables of single measurements."""


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()  # takes no option
    for page in PAGES:
        before, after = page.read_text(), written(page.read_text())
        page.write_text(after)
        print(f"{page.relative_to(ROOT)}: {'as before' if before == after else 'CHANGED'}")
    draw()
