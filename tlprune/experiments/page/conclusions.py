"""What may be concluded from results, in plain words: all of it is derived from cells, nothing is claimed beyond."""

from collections.abc import Sequence
from dataclasses import dataclass

from tlprune.experiments.page.findings import CONTROLS, accuracy_rows, leader, units_of, verdict
from tlprune.experiments.results import NONE, Group, Results, Winning
from tlprune.experiments.wording import difference, interval_of, mode_label, share

__all__ = ["Headline", "conclusion", "headlines"]

_TO_NONE = {"better": "clearly better than", "worse": "clearly worse than", "unclear": "not clearly different from"}


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
    words = mode_label(mode, results.recipes)
    if best is None:
        text = f"of the methods keeps validation accuracy for {target} at any ratio tried, by {words}"
        return [Headline("none", text)] if _has_baseline(results, target, mode) else []
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
        held = f"{_TO_NONE[verdict(winning.test)]} no pruning"
        interval = "one seed, no interval" if winning.test.count == 1 else f"95 % interval {interval_of(winning.test)}"
        found.append(Headline(f"{winning.test.mean:+.1f}", f"points on test images of {target}, {interval}: {held}"))
    saving, reused = results.saving(group), results.saving(group, reused=True)
    if saving is not None:
        paid = f", surrogate and selection paid; {share(reused)} with the surrogate at hand"
        if not results.methods[method].uses_surrogate:
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
    opening = f"By {mode_label(mode, results.recipes)}, over {seeds} {'seed' if seeds == 1 else 'seeds'}:"
    if not _has_baseline(results, target, mode):
        return f"{opening} nothing was run without pruning, so no loss or gain can be measured."
    methods = [name for name in results.compared if results.prunes(name) and _was_run(results, target, mode, name)]
    tried = [name for name in methods if name not in CONTROLS]
    best = leader(results, target, mode)
    said = [opening]
    if best is None and tried:
        said.append("no method keeps validation accuracy at any ratio that was tried.")
    if best is not None:
        said.append(_of_leader(results, target, *best))
    others = [name for name in methods if best is None or name != best[0]]
    if best is not None and others:
        labels = [f"{results.methods[name].label} {_reach(results, target, mode, name)}" for name in others]
        said.append(f"The others' winning subsets: {', '.join(labels)}.")
    said.append(_against_random(results, target, mode, tried))
    said += [_of_weighted(results, target, mode, name) for name in results.compared if name not in (*methods, NONE)]
    said += [_of_other_mode(results, target, other) for other in results.modes if other != mode]
    if seeds == 1:
        said.append("With one seed there are no intervals: nothing here is clear.")
    return " ".join(filter(None, said))


def _was_run(results: Results, target: str, mode: str, method: str) -> bool:
    return any(results.accuracies(group, mode) for group in results.groups(target, method, "epochs"))


def _reach(results: Results, target: str, mode: str, method: str) -> str:
    ratio = results.winning(target, method, mode).ratio
    return "none" if ratio is None else share(ratio)


def _of_leader(results: Results, target: str, method: str, winning: Winning) -> str:
    text = f"{results.methods[method].label} keeps validation accuracy with {share(winning.ratio)} of the "
    text += f"{units_of(results, method)} pruned"
    if winning.test is not None:
        text += (
            f"; on test images that is {difference(winning.test)} points, {_TO_NONE[verdict(winning.test)]} no pruning"
        )
    saving = results.saving(Group(target, method, winning.ratio or 0.0))
    if saving is None:
        return f"{text}."
    change = f"saves {share(saving)} of the time" if saving >= 0 else f"takes {share(-saving)} more time"
    return f"{text}. It {change}, surrogate and selection paid."


def _of_weighted(results: Results, target: str, mode: str, method: str) -> str:
    """What a method does that prunes nothing and draws by weights, as long as no pruning; empty if it was not run."""
    found = None
    if not results.prunes(method):
        found = results.difference(Group(target, method), Group(target, NONE), mode)
    if found is None:
        return ""
    held = f"{difference(found)} points on test images, {_TO_NONE[verdict(found)]} no pruning"
    return f"{results.methods[method].label}, from the whole source in as many steps: {held}."


def _against_random(results: Results, target: str, mode: str, methods: Sequence[str]) -> str:
    """In how many comparisons methods clearly beat random pruning: at each ratio and length, on test images."""
    rows = accuracy_rows(results, target, mode)
    said = []
    for method in methods:
        found = [row.to_random for row in rows if row.group.method == method and row.to_random is not None]
        verdicts = [verdict(one) for one in found]
        clear = [f"clearly {word} in {verdicts.count(word)}" for word in ("better", "worse") if word in verdicts]
        text = f"{' and '.join(clear) or 'clearly different in none'} of {len(found)}"
        if len(found) == 1:
            text = f"{verdicts[0]} ({difference(found[0])} points)"
        if found:
            said.append(f"{results.methods[method].label} {text}")
    return f"Against random pruning on test images: {', '.join(said)}." if said else ""


def _of_other_mode(results: Results, target: str, mode: str) -> str:
    if not _has_baseline(results, target, mode):
        return ""
    best = leader(results, target, mode)
    words = mode_label(mode, results.recipes)
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
