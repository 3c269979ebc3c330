"""Sentences on what intervals support, which the terminal, the report and the demo share."""

from collections.abc import Sequence

from tlprune.experiments.claims import Claim, Winning, pooled_winning, targets_for
from tlprune.experiments.page.findings import CONTROLS
from tlprune.experiments.pooled import RANDOM, pooled_difference
from tlprune.experiments.results import Group, Results
from tlprune.experiments.statistics import FEWEST_TARGETS
from tlprune.experiments.wording import interval_of, mode_label, points_text, pooled_text, share, some_targets

__all__ = ["claim_sentence", "claim_text", "pooled_sentences"]


def claim_text(claim: Claim, targets: int | None = None) -> str:
    """Writes a claim's difference: ``-0.2 [-0.9, +0.5] points``; without an interval, the mean alone.

    Args:
        claim: The claim.
        targets: Number of all targets, of a claim over them; if it is about some of them, it says over how many.
    """
    interval = "" if claim.low != claim.low else f" {interval_of(claim)}"
    some = "" if targets is None or claim.targets is None else some_targets(claim.targets, targets)
    return f"{claim.mean:+.1f}{interval} points{' ' if some else ''}{some}"


def claim_sentence(label: str, won: Winning, units: str, targets: int | None = None) -> str:
    """Says what a method's claims come to.

    Args:
        label: Name of the method.
        won: Its claims.
        units: What it prunes, in the plural.
        targets: As in :func:`claim_text`.
    """
    points = points_text(won.margin)
    claim, undecided = won.claim, won.open
    if claim is not None:
        said = f"{label} with {share(claim.ratio)} of the {units} pruned is at most {points} below no pruning"
        return f"{said} ({claim_text(claim, targets)})."
    if undecided is not None:
        said = (
            f"{label} is not shown to stay within {points} of no pruning: at {share(undecided.ratio)} pruned it is at"
        )
        return f"{said} {claim_text(undecided, targets)}; {undecided.needs}."
    if won.stop is not None:
        said = f"{label} is more than {points} below no pruning at {share(won.stop.ratio)} pruned"
        return f"{said} ({claim_text(won.stop, targets)})."
    return ""


def pooled_sentences(results: Results, mode: str, units: Sequence[str]) -> list[str]:
    """Says, over all targets, what each method gains over random pruning and what it loses to no pruning.

    Nothing is said of controls, of fewer targets than carry a conclusion, and before the sweep has ended.

    Args:
        results: Finished cells of several targets.
        mode: Transfer mode.
        units: For each of the compared methods, what it prunes, in the plural.
    """
    said: list[str] = []
    if len(results.targets) < FEWEST_TARGETS or results.is_partial:
        return said
    for method, words in zip(results.compared, units, strict=True):
        if method in CONTROLS or not results.prunes(method):
            continue
        against = [_against_random(results, one, mode) for one in results.groups_over_targets(method)]
        label = results.methods[method].label
        if any(against):
            by = mode_label(mode, results.recipes)
            said.append(f"{label} minus random pruning, by {by}: {'; '.join(filter(None, against))}.")
        said.append(claim_sentence(label, pooled_winning(results, method, mode), words, len(results.targets)))
    return list(filter(None, said))


def _against_random(results: Results, group: Group, mode: str) -> str:
    found = pooled_difference(results, group, RANDOM, mode) if RANDOM in results.methods else None
    if found is None:
        return ""
    where = f"{share(group.ratio)} pruned" + (", equal steps" if group.match_budget == "steps" else "")
    word = found.verdict
    if word == "unequal":
        word_text = "unequal numbers of images or steps, so not comparable"
    elif word == "unclear":
        needed = targets_for(found.points, abs(found.points.mean)) if found.points.enough_targets else "too few targets"
        word_text = f"unclear, {needed}"
    else:
        word_text = f"clearly {word}"
    some = some_targets(found.points.targets, len(results.targets))
    return ", ".join(filter(None, [f"{where} {pooled_text(found.points)}", some, word_text]))
