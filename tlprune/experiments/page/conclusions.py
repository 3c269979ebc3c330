"""What may be concluded from results, in plain words: all of it is derived from cells, nothing is claimed beyond."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tlprune.experiments.claims import FEWEST_SEEDS, UNFINISHED, Claim, pooled_winning, winning
from tlprune.experiments.page.findings import CONTROLS, accuracy_rows, group_label, leader, units_of, verdict, was_run
from tlprune.experiments.pooled import RANDOM, PooledDifference, pooled_difference
from tlprune.experiments.results import NONE, Group, Results
from tlprune.experiments.statistics import FEWEST_TARGETS
from tlprune.experiments.verdicts import claim_sentence, claim_text
from tlprune.experiments.wording import difference, mode_label, points_text, pooled_text, share, some_targets

__all__ = ["Headline", "conclusion", "headlines", "pooled_headlines"]

_TOO_FEW = ("one seed", "two seeds")
"""Verdicts that decide nothing, however far from zero the mean is."""

_TO_NONE = {"better": "clearly better than", "worse": "clearly worse than", "unclear": "not clearly different from"}
_TO_NONE |= dict.fromkeys(_TOO_FEW, _TO_NONE["unclear"])


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
    """The leader's winning subset of a target, as far as intervals support one, and what it saves."""
    mode = _deciding(results, target)
    best = leader(results, target, mode)
    if not _has_baseline(results, target, mode):
        return []
    if results.is_partial:
        return [Headline("open", f"{UNFINISHED}, so nothing is claimed yet ({target})")]
    if best is None:
        return [_nothing_left(results, f"for {target}, by {mode_label(mode, results.recipes)}")]
    seeds = results.seeds(results.groups(target))
    if seeds < FEWEST_SEEDS:
        return [Headline("open", f"{_too_few(seeds).rstrip('.')} ({target})")]
    method, won = best
    label, units = results.methods[method].label, units_of(results, method)
    claim = won.claim
    if claim is None:
        return [_undecided(results, won.open, f"{label} for {target}, by {mode_label(mode, results.recipes)}")]
    return [
        Headline(
            share(claim.ratio),
            f"of the {units} can go for {target} by {label}: at most {points_text(results.margin)} below no pruning, "
            f"by {mode_label(mode, results.recipes)} ({claim_text(claim)})",
        ),
        *_saved(results, [Group(target, method, claim.ratio)], f"for {target}"),
    ]


def pooled_headlines(results: Results) -> list[Headline]:
    """Over all targets: the largest winning subset, the best difference to random pruning, and what the subset saves.

    Returns:
        Where the sweep has not ended, or targets are too few for a conclusion, that alone.
    """
    if results.is_partial:
        return [Headline("open", f"{UNFINISHED}, so nothing is claimed yet (over all targets)")]
    if len(results.targets) < FEWEST_TARGETS:
        few = f"{len(results.targets)} targets are too few for a conclusion over targets"
        return [Headline("open", f"{few}; run {FEWEST_TARGETS} or more. Each target has its own conclusion below")]
    mode = results.modes[0]
    methods = [name for name in results.compared if name not in CONTROLS and results.prunes(name)]
    all_won = [(pooled_winning(results, name, mode), name) for name in methods]
    all_won = [(won, name) for won, name in all_won if won.claims]
    found = []
    of_seed = " of one seed" if results.seeds() == 1 else ""
    by = f"{of_seed}, by {mode_label(mode, results.recipes)}"
    holding = [(won.claim, name) for won, name in all_won if won.claim is not None]
    opened = [(won.open, name) for won, name in all_won if won.open is not None]
    saved: list[Headline] = []
    if holding:
        claim, name = max(holding, key=lambda one: (one[0].ratio, one[0].mean))
        text = f"of the {units_of(results, name)} can go by {results.methods[name].label} "
        text += f"{_over(results, claim.targets)}{by}: at most "
        found.append(
            Headline(share(claim.ratio), f"{text}{points_text(results.margin)} below no pruning ({claim_text(claim)})")
        )
        groups = [Group(target, name, claim.ratio) for target in results.targets]
        groups = [one for one in groups if results.of(one) and results.of(Group(one.target, NONE))]
        saved = _saved(results, groups, f"on average {_over(results, len(groups))}")
    elif opened:
        claim, name = max(opened, key=lambda one: one[0].mean)
        found.append(_undecided(results, claim, f"{results.methods[name].label} {_over(results, claim.targets)}{by}"))
    elif all_won:
        found.append(_nothing_left(results, f"over {len(results.targets)} targets{by}"))
    gains = _gains(results, methods, mode)
    if gains:
        group, points = max(gains, key=lambda one: one[1].points.low)
        word = f"clearly {points.verdict}" if points.verdict in ("better", "worse") else points.verdict
        best = f", the best of {len(gains)} comparisons" if len(gains) > 1 else ""
        over = f"{_over(results, points.points.targets)}{by}"
        text = f"points to random pruning for {group_label(results, group)} at {share(group.ratio)} pruned{best}, "
        found.append(Headline(f"{points.points.mean:+.1f}", f"{text}{over}: {pooled_text(points.points)}, {word}"))
    return found + saved


def _over(results: Results, count: int | None) -> str:
    """Over how many targets something is: ``over 10 targets``, or ``over 7 of 10 targets``."""
    total = len(results.targets)
    return (some_targets(count, total) if count is not None else "") or f"over {total} targets"


def _gains(results: Results, methods: Sequence[str], mode: str) -> list[tuple[Group, PooledDifference]]:
    """Differences to random pruning of all groups that trained on as many images for as many steps."""
    found = []
    for group in (one for method in methods for one in results.groups_over_targets(method)):
        points = pooled_difference(results, group, RANDOM, mode) if RANDOM in results.methods else None
        if points is not None and points.equal and points.points.enough_targets:
            found.append((group, points))
    return found


def _undecided(results: Results, claim: Claim | None, where: str) -> Headline:
    if claim is None:
        raise RuntimeError("no open claim")
    costs = f"whether {share(claim.ratio)} pruned costs more than {points_text(results.margin)}"
    return Headline("open", f"{costs}, {where} ({claim_text(claim)}): {claim.needs}")


def _nothing_left(results: Results, where: str) -> Headline:
    return Headline(
        "none", f"of the methods stays within {points_text(results.margin)} of no pruning at any ratio tried, {where}"
    )


def _saved(results: Results, groups: Sequence[Group], where: str) -> list[Headline]:
    """What one method saves on average over the groups that were run beside no pruning."""
    run = [group for group in groups if results.of(group) and results.of(Group(group.target, NONE))]
    saving, reused = ([results.saving(group, at_hand) or 0.0 for group in run] for at_hand in (False, True))
    if not run:
        return []
    paid = f", surrogate and selection paid; {share(fmean(reused))} with the surrogate at hand"
    if not results.methods[run[0].method].uses_surrogate:
        paid = ", selection paid"
    return [Headline(share(fmean(saving)), f"of the pretraining time saved {where}{paid}")]


def conclusion(results: Results, target: str) -> str:
    """A paragraph on one target: what intervals support by the deciding mode, at what cost, and what is unclear."""
    mode = _deciding(results, target)
    seeds = results.seeds(results.groups(target))
    opening = f"By {mode_label(mode, results.recipes)}, over {seeds} {'seed' if seeds == 1 else 'seeds'}:"
    if not _has_baseline(results, target, mode):
        return f"{opening} nothing was run without pruning, so no loss or gain can be measured."
    if results.is_partial:
        return f"{opening} {UNFINISHED}, so nothing is claimed yet."
    methods = [name for name in results.compared if results.prunes(name) and was_run(results, target, mode, name)]
    tried = [name for name in methods if name not in CONTROLS]
    said = [opening]
    if seeds < FEWEST_SEEDS:
        said.append(_too_few(seeds))
    for name in tried if seeds >= FEWEST_SEEDS else ():
        won = winning(results, target, name, mode)
        said.append(claim_sentence(results.methods[name].label, won, units_of(results, name)))
        if won.ratio is not None:
            said.append(_of_saving(results, Group(target, name, won.ratio)))
    said.append(_against_random(results, target, mode, tried))
    said += [_of_unpruned(results, target, mode, name) for name in results.compared if name not in (*methods, NONE)]
    if seeds >= FEWEST_SEEDS:
        said += [_of_other_mode(results, target, other) for other in results.modes if other != mode]
    return " ".join(filter(None, said))


def _too_few(seeds: int) -> str:
    why = "one seed has no interval" if seeds == 1 else "an interval of two seeds reaches nine deviations to each side"
    return f"{why}, so no winning subset is claimed for this target alone; run {FEWEST_SEEDS} seeds or more."


def _of_saving(results: Results, group: Group) -> str:
    saving = results.saving(group)
    if saving is None:
        return ""
    change = f"saves {share(saving)} of the time" if saving >= 0 else f"takes {share(-saving)} more time"
    return f"It {change}, surrogate and selection paid."


def _of_unpruned(results: Results, target: str, mode: str, method: str) -> str:
    """What a method does that prunes nothing: one that draws by weights, or weights alone; empty if it was not run."""
    found = None
    if not results.prunes(method):
        found = results.difference(Group(target, method), Group(target, NONE), mode)
    if found is None:
        return ""
    held = f"{difference(found)} points on test images, {_TO_NONE[verdict(found)]} no pruning"
    how = "without pretraining on the source"
    if results.methods[method].sampling == "weighted":
        how = "from the whole source in as many steps"
    return f"{results.methods[method].label}, {how}: {held}."


def _against_random(results: Results, target: str, mode: str, methods: Sequence[str]) -> str:
    """In how many comparisons methods clearly beat random pruning: at each ratio and length, on test images.

    Of fewer seeds than decide, in how many their mean is higher.
    """
    rows = accuracy_rows(results, target, mode)
    said = []
    few: set[str] = set()
    for method in methods:
        held = [row for row in rows if row.group.method == method and row.to_random is not None]
        found = [row.to_random for row in held]
        verdicts = [verdict(row.to_random, row.equal) for row in held if row.to_random is not None]
        clear = [f"clearly {word} in {verdicts.count(word)}" for word in ("better", "worse") if word in verdicts]
        if "unequal" in verdicts:
            clear.append(f"not comparable in {verdicts.count('unequal')}, with more images or steps on one side,")
        text = f"{' and '.join(clear) or 'clearly different in none'} of {len(found)}"
        if set(verdicts) <= set(_TOO_FEW):
            few |= set(verdicts)
            above = sum(one is not None and one.mean > 0 for one in found)
            text = f"higher on average in {above} of {len(found)}"
        elif len(found) == 1:
            text = f"{verdicts[0]} ({difference(found[0])} points)"
        if found:
            said.append(f"{results.methods[method].label} {text}")
    ending = f"; {' or '.join(sorted(few))} cannot decide" if few else ""
    return f"Against random pruning on test images: {', '.join(said)}{ending}." if said else ""


def _of_other_mode(results: Results, target: str, mode: str) -> str:
    if not _has_baseline(results, target, mode):
        return ""
    best = leader(results, target, mode)
    words = mode_label(mode, results.recipes)
    if best is None or best[1].claim is None:
        return f"By {words}, no method is shown to stay within {points_text(results.margin)} of no pruning."
    method, won = best
    return f"By {words}: {claim_sentence(results.methods[method].label, won, units_of(results, method))}"


def _deciding(results: Results, target: str) -> str:
    return next(iter(results.modes_of(target)), results.modes[0])


def _has_baseline(results: Results, target: str, mode: str) -> bool:
    return bool(results.accuracies(Group(target, NONE), mode))
