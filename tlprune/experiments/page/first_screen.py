"""What a page about a Selection opens with: what is kept, why, what that saves, and how sure it is, in sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tlprune.experiments.page.conclusions import Headline
from tlprune.experiments.page.evidence import Evidence
from tlprune.experiments.page.explanations import WHAT_METHODS_DO
from tlprune.selection.advisor import OF_A_HANDFUL, effective_units, votes_for_a_handful
from tlprune.selection.selection import UNIT_WORDS
from tlprune.selection.stability import stability

__all__ = ["FirstScreen", "first_screen"]

_NAMED = 8
_NAME = 60


@dataclass(frozen=True)
class FirstScreen:
    """First screen of a Selection.

    Args:
        title: Title of the Selection.
        cards: Its numbers.
        answers: Questions of a reader, each with sentences that answer it.
        warnings: What speaks against using it, in sentences.
    """

    title: str
    cards: list[Headline]
    answers: list[tuple[str, list[str]]]
    warnings: list[str]


def first_screen(evidence: Evidence) -> FirstScreen:
    """Says in plain sentences what a Selection keeps, why, what that saves, and how sure it is."""
    answers = [
        ("What does it keep?", _what(evidence)),
        ("Why this part?", _why(evidence)),
        ("What does it save?", _saved(evidence)),
        ("How sure is it?", _sure(evidence)),
    ]
    return FirstScreen(evidence.title, _cards(evidence), answers, _warnings(evidence))


def percentage(part: float, whole: float) -> str:
    """A share in percent with at most one decimal: ``26 %``, ``88.5 %``.

    Example:
        >>> percentage(26, 100), percentage(885, 1000), percentage(9999, 10000), percentage(1, 1), percentage(1, 10**6)
        ('26 %', '88.5 %', 'more than 99.9 %', '100 %', 'less than 0.1 %')
    """
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "less than 0.1 %"
    if 99.9 < share < 100:
        return "more than 99.9 %"
    return f"{share:.1f}".removesuffix(".0") + " %"


def _cards(one: Evidence) -> list[Headline]:
    selection, cards = one.selection, []
    if selection.sizes_known:
        total = len(selection.unit_of_sample)
        text = f"of the images are kept: {one.images_kept:,} of {total:,}"
        cards.append(Headline(percentage(one.images_kept, total), text))
    if selection.unit_kind != "sample":
        cards.append(Headline(f"{one.kept:,} of {selection.num_units:,}", f"{one.unit_words} are kept"))
    if (askers := _askers(one)) is not None:
        cards.append(
            Headline(f"{askers:,} of {len(selection.assignments):,}", "target images have a kept image of their own")
        )
    elif one.covered is not None:
        whose = " of the least covered target" if selection.covers_each_target else ""
        cards.append(Headline(percentage(one.covered, 1), f"of the votes{whose} go to what is kept"))
    if selection.sizes_known:
        share = percentage(len(selection.unit_of_sample) - one.images_kept, len(selection.unit_of_sample))
        cards.append(Headline(share, "less pretraining time at equal epochs, before the cost of selecting"))
    return cards


def _what(one: Evidence) -> list[str]:
    selection, kept, total = one.selection, one.kept, one.selection.num_units
    counted = f"{one.images_kept:,} of {len(selection.unit_of_sample):,} images"
    units = f"{kept:,} of {total:,} {one.unit_words} {'is' if kept == 1 else 'are'} kept ({one.why})"
    if not selection.sizes_known:
        said = [f"{units}; only class names are known, so images are not counted."]
    elif selection.unit_kind == "sample":
        share = percentage(one.images_kept, len(selection.unit_of_sample))
        said = [f"{counted} of the source are kept, {share} ({one.why})."]
        if classes := one.units.classes_of_kept(_NAMED):
            of = ", ".join(f"{name} ({percentage(count, one.images_kept)})" for name, count in classes)
            return [*said, f"Their most frequent classes are {of}."]
    else:
        said = [f"{units}: {counted} of the source, {percentage(one.images_kept, len(selection.unit_of_sample))}."]
        if int(selection.unit_sizes[selection.ranking[:kept]].sum()) > one.images_kept:
            said.append("Of the last of them only some images are kept, so that their number is exact.")
    if selection.unit_kind == "sample" and one.units.source is None:
        return said  # numbers of images say nothing to a reader
    said.append(f"Ranked highest: {_listed(one.units.names(0, min(kept, _NAMED)), kept)}.")
    if kept < total:
        missed = one.units.names(kept, min(kept + _NAMED, total))
        said.append(f"Closest to being kept, but dropped: {_listed(missed, total - kept)}.")
    return said


def _askers(one: Evidence) -> int | None:
    """Returns how many target images the kept units are kept for; None where units are not kept for single images."""
    if not len(one.selection.asked_by):
        return None
    asking = one.selection.asked_by[one.selection.ranking[: one.kept]]
    return len({image for image in asking.tolist() if image >= 0})


def _listed(names: Sequence[str], total: int) -> str:
    short = [name if len(name) <= _NAME else f"…{name[-_NAME:]}" for name in names]
    more = total - len(short)
    if more:
        return f"{', '.join(short)} and {more:,} more"
    return short[0] if len(short) == 1 else f"{', '.join(short[:-1])} and {short[-1]}"


def _why(one: Evidence) -> list[str]:
    selection, words = one.selection, UNIT_WORDS[one.selection.unit_kind]
    said = []
    if text := WHAT_METHODS_DO.get(selection.method):
        said.append(text if text[0].isupper() else f"The method, {selection.method.replace('_', ' ')}, {text}")
    if one.covered is None:
        return [*said, "No image of a target voted for this order."]
    if (askers := _askers(one)) is not None:
        first, last = (float(selection.scores[selection.ranking[place]]) for place in (0, one.kept - 1))
        per_image = one.kept / max(askers, 1)
        said.append(
            f"{askers:,} images of the target took the {one.kept:,} kept images, {per_image:.1f} each on average."
        )
        return [*said, f"Their similarity is {first:.2f} for the first and {last:.2f} for the last of them (cosine)."]
    voters, voted = len(selection.assignments), int((selection.votes > 0).sum())
    targets = [str(name).rstrip("/").rpartition("/")[2] or str(name) for name in selection.metadata.get("targets", [])]
    of = f" of {', '.join(targets)}" if targets else ""
    as_many = f"as evenly spread as over {effective_units(selection):.1f} {words[1]} with equal votes"
    entropy = f"entropy {selection.vote_entropy:.2f} of at most {math.log2(selection.num_units):.2f} bits"
    images = "1 training image" if voters == 1 else f"{voters:,} training images"
    said.append(f"{images}{of} voted for {voted:,} of {selection.num_units:,} {words[1]}, {as_many} ({entropy}).")
    if len(selection.target_votes) > 1:
        shares = selection.covered_by_target[:, one.kept - 1].tolist()
        names = targets if len(targets) == len(shares) else [f"target {place + 1}" for place in range(len(shares))]
        each = ", ".join(f"{percentage(share, 1)} of {name}" for name, share in zip(names, shares, strict=True))
        said.append(f"What is kept holds these shares of the votes of each target: {each}.")
    else:
        said.append(f"What is kept holds {percentage(one.covered, 1)} of the votes.")
    return said


def _saved(one: Evidence) -> list[str]:
    selection, said = one.selection, []
    if selection.sizes_known:
        share = percentage(one.images_kept, len(selection.unit_of_sample))
        said.append(
            f"Pretraining on what is kept for as many epochs takes {share} of the steps on the whole source, and so "
            "about that share of the time. For as many steps as on the whole source it saves no time."
        )
    else:
        said.append("Images that are dropped need not be downloaded; how many these are is not known.")
    said.append(one.cost or "What selecting took is not recorded.")
    if isinstance(selection.metadata.get("surrogate_seconds"), int | float):
        said.append("The surrogate serves further targets of the same source.")
    elif selection.config.get("surrogate_digest"):
        said.append("Training the surrogate is not in this time; its file does not say how long that took.")
    if selection.sizes_known:
        said.append("`tlprune advise --backbone NAME --epochs N` forecasts what is saved with all of it counted.")
    return said


def _sure(one: Evidence) -> list[str]:
    selection, words = one.selection, one.unit_words
    said = ["Nothing was trained on it for this page, so it says nothing of accuracy."]
    if (found := stability(selection, one.kept)) is not None:
        said.append(
            f"If other images of the target voted, {percentage(found.kept_again, 1)} of the kept {words} would be kept "
            f"again on average, and {found.certain:,} of {one.kept:,} in at least 95 % of the cases ({found.draws} "
            "draws of the target's images with replacement). That covers the choice of these images, not the surrogate."
        )
    if one.diagnoses:
        said.append("How near it is to the target is held against as many random images below, under Diagnostics.")
    said.append(
        "How such Selections fared on real images is measured in the documentation, in docs/results.md and "
        "docs/selection-evidence.md. For this source and target `tlprune sweep` measures it against random pruning."
    )
    return said


def _warnings(one: Evidence) -> list[str]:
    selection, words = one.selection, one.unit_words
    said = []
    if selection.method == "reverse":
        said.append("This is a control: it keeps first what the votes would keep last.")
    if one.covered is None:
        return said
    voted = int((selection.votes > 0).sum())
    if votes_for_a_handful(selection):
        said.append(f"Few {words} take nearly all votes: {OF_A_HANDFUL}.")
    if voted < one.kept < selection.num_units and not len(selection.asked_by):
        said.append(
            f"Only {voted:,} of the {one.kept:,} kept {words} have votes; the others are ranked by score alone."
        )
    return said
