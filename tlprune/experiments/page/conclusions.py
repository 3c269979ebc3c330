"""What may be concluded from results, in plain words: all of it is derived from cells, nothing is claimed beyond."""

from dataclasses import dataclass

from tlprune.experiments.methods import MODE_LABELS
from tlprune.experiments.page.findings import CONTROLS, accuracy_rows, leader, units_of, verdict
from tlprune.experiments.page.wording import difference, share
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.statistics import Estimate

__all__ = ["Headline", "conclusion", "headlines"]

_TO_NONE = {"better": "clearly better than", "worse": "clearly worse than", "unclear": "not to be told from"}


@dataclass(frozen=True)
class Headline:
    """A number that a page opens with.

    Args:
        value: As text.
        caption: What it is.
    """

    value: str
    caption: str


def headlines(results: Results, target: str) -> list[Headline]:
    """The leader's winning subset of a target, what it does on test images, and what it saves.

    Args:
        results: All cells.
        target: Name of the target.
    """
    mode = _deciding(results, target)
    best = leader(results, target, mode)
    words = MODE_LABELS.get(mode, mode)
    if best is None:
        text = f"method keeps validation accuracy on {target} at any ratio tried, by {words}"
        return [Headline("no", text)] if _has_baseline(results, target, mode) else []
    method, winning = best
    label, ratio = results.methods[method].label, winning.ratio or 0.0
    group = Group(target, method, ratio)
    found = [
        Headline(
            share(ratio),
            f"of the {units_of(results, method)} pruned for {target} by {label}: not below no pruning on validation "
            f"images, by {words}",
        )
    ]
    if winning.test is not None:
        held = f"{difference(winning.test)}: {_TO_NONE[verdict(winning.test)]} no pruning"
        found.append(Headline(f"{winning.test.mean:+.1f}", f"points on the test images of {target}, {held}"))
    saving, reused = results.saving(group), results.saving(group, reused=True)
    if saving is not None:
        paid = f", surrogate and selection paid; {share(reused)} with the surrogate at hand"
        if not results.methods[method].pays:
            paid = ", selection paid"
        found.append(Headline(share(saving), f"of the pretraining time saved for {target}{paid}"))
    return found


def conclusion(results: Results, target: str) -> str:
    """A paragraph on one target: what wins where by the deciding mode, against whom, at what cost, what is unclear.

    Args:
        results: All cells.
        target: Name of the target.
    """
    mode = _deciding(results, target)
    seeds = results.seeds(results.groups(target))
    said = [f"By {MODE_LABELS.get(mode, mode)}, over {seeds} {'seed' if seeds == 1 else 'seeds'}:"]
    if not _has_baseline(results, target, mode):
        return f"{said[0]} nothing was run without pruning, so that no loss or gain can be told."
    tried = [method for method in results.compared if method not in CONTROLS]
    best = leader(results, target, mode)
    ordered = sorted(tried, key=lambda method: best is None or method != best[0])
    said += [text for method in ordered if (text := _of_method(results, target, mode, method))]
    if "random" in results.compared and results.groups(target, "random", "epochs"):
        ratio = results.winning(target, "random", mode).ratio
        held = "stays below no pruning at every ratio" if ratio is None else f"does so up to {ratio:.0%}"
        said.append(f"Random pruning {held}.")
    if len(results.modes) > 1:
        said += [_of_other_mode(results, target, other) for other in results.modes if other != mode]
    if seeds == 1:
        said.append("With one seed there are no intervals: nothing here is clear.")
    return " ".join(filter(None, said))


def _of_method(results: Results, target: str, mode: str, method: str) -> str:
    groups = results.groups(target, method, "epochs")
    if not any(results.accuracies(group, mode) for group in groups):
        return ""
    label = results.methods[method].label
    winning = results.winning(target, method, mode)
    units = units_of(results, method)
    if winning.ratio is None:
        text = f"{label} is below no pruning on validation images at every ratio"
    else:
        text = f"{label} keeps validation accuracy with {winning.ratio:.0%} of the {units} pruned"
        if winning.test is not None:
            held = _TO_NONE[verdict(winning.test)]
            text += f"; on test images that is {difference(winning.test)} points, {held} no pruning"
        saving = results.saving(Group(target, method, winning.ratio))
        if saving is not None:
            change = f"saves {saving:.0%} of the time" if saving >= 0 else f"costs {-saving:.0%} more time"
            text += f". It {change}, all paid"
    return f"{text}. {_against_random(results, target, mode, method)}".strip()


def _against_random(results: Results, target: str, mode: str, method: str) -> str:
    """In how many comparisons a method beats random pruning: at each ratio and length, on test images."""
    rows = [row for row in accuracy_rows(results, target, mode) if row.group.method == method]
    found = [verdict(row.to_random) for row in rows if row.to_random is not None]
    if not found:
        return ""
    better, worse = found.count("better"), found.count("worse")
    if len(found) == 1:
        return f"Against random pruning it is {_alone(rows[0].to_random)}."
    if not better and not worse:
        return f"It cannot be told from random pruning in any of {len(found)} comparisons."
    rest = "; the rest are unclear" if better + worse < len(found) else ""
    return (
        f"Of {len(found)} comparisons with random pruning it is clearly better in {better} and clearly worse in "
        f"{worse}{rest}."
    )


def _alone(found: Estimate | None) -> str:
    words = {"better": "clearly better", "worse": "clearly worse", "unclear": "not clearly different"}
    return "not comparable" if found is None else f"{words[verdict(found)]}: {difference(found)} points"


def _of_other_mode(results: Results, target: str, mode: str) -> str:
    if not _has_baseline(results, target, mode):
        return ""
    best = leader(results, target, mode)
    words = MODE_LABELS.get(mode, mode)
    if best is None:
        return f"By {words} no method has a winning subset."
    method, winning = best
    held = ""
    if winning.test is not None:
        held = f" ({difference(winning.test)} points on test images, {_TO_NONE[verdict(winning.test)]} no pruning)"
    label = results.methods[method].label
    return f"By {words} the largest winning subset is that of {label}, {winning.ratio:.0%} pruned{held}."


def _deciding(results: Results, target: str) -> str:
    """The first mode that the target has."""
    cells = [cell for cell in results.cells if cell.target == target]
    return next((mode for mode in results.modes if any(mode in cell.scores for cell in cells)), results.modes[0])


def _has_baseline(results: Results, target: str, mode: str) -> bool:
    return bool(results.accuracies(Group(target, NONE), mode))
