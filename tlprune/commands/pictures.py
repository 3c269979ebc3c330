"""Selections shown in a report, with source images and target votes if the datasets are found."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tlprune.commands.origins import opened_source, opened_targets
from tlprune.commands.show import origin
from tlprune.data.datasets import ImageSet, TensorImages
from tlprune.data.feature_set import FeatureSet
from tlprune.data.sources import BUILT_IN_SOURCE, open_source
from tlprune.errors import InputError
from tlprune.experiments.claims import winning
from tlprune.experiments.page.evidence import Evidence, Votes, gather, suggested_budget
from tlprune.experiments.page.findings import shown_group
from tlprune.experiments.page.units import LISTED
from tlprune.experiments.results import Group, Results
from tlprune.experiments.wording import SEVERAL, target_labels
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import Selection

__all__ = ["Shown", "gathered", "shown_selections"]

_ROWS_OF_A_SWEEP = 400
"""Most rows of each table of units on the page of a sweep."""


@dataclass(frozen=True)
class Shown:
    """Selection shown on the page.

    Args:
        title: Heading of the Selection.
        selection: Selection to show.
        budget: How much is kept.
        why: Reason for this budget.
        source: Name of the source, if the Selection does not contain it.
        targets: Names of the targets.
    """

    title: str
    selection: Selection
    budget: Budget
    why: str
    source: str | None
    targets: list[str]


def shown_selections(
    results: Results | None, files: Sequence[Path], budget: Budget | None = None
) -> tuple[list[Shown], list[str]]:
    """Collects the Selections to show: those given, and one for each target of a sweep.

    Args:
        results: Cells with the paths of their Selections; None to show given Selections only.
        files: Paths of the given Selections.
        budget: How much these keep; None for what each suggests.

    Returns:
        Selections to show, and sentences that describe missing ones.

    Raises:
        InputError: If a file is not a Selection, or the budget does not fit it.
    """
    shown: list[Shown] = []
    notes: list[str] = []
    for path in files:
        selection = Selection.load(path)
        given, why = suggested_budget(selection) if budget is None else (budget, _as_given(budget))
        try:
            selection.kept(given)
        except InputError as error:
            raise InputError(f"{path.name}: {error}") from error
        shown.append(Shown(path.stem, selection, given, why, None, list(selection.metadata.get("targets", []))))
    if results is None:
        return shown, notes
    labels = target_labels(results.targets)
    if len(labels) > SEVERAL:
        text = (
            f"What is kept and dropped is shown for the first {SEVERAL} of {len(labels)} targets; 'tlprune report' of"
        )
        notes.append(f"{text} a file in the run's `selections` shows any other.")
    for target, name in list(labels.items())[:SEVERAL]:
        group = shown_group(results, target)
        if group is None:
            lacks = "is finished yet" if results.is_partial else "is in the run"
            notes.append(f"No Selection for {name} {lacks}, so what is kept and dropped for it is not shown.")
            continue
        try:
            selection = Selection.load(next(cell.selection for cell in results.of(group) if cell.selection))
        except InputError as error:
            notes.append(f"What is kept and dropped for {name} is not shown: {error}.")
            continue
        label = results.methods[group.method].label
        won = winning(results, target, group.method, results.modes[0]).ratio == group.ratio
        why = f"{label} at {group.ratio:.0%} pruned, {'its winning subset' if won else _place(results, group)}"
        title = f"{label} for {name}"
        shown.append(Shown(title, selection, Budget(ratio=group.ratio), why, results.source.get("name"), [target]))
    return shown, notes


def _place(results: Results, group: Group) -> str:
    """What a ratio is among those that were run, where there is no winning subset."""
    run = len({one.ratio for one in results.groups(group.target, group.method, "epochs")})
    if run <= 2:
        return "the only ratio that was run" if run == 1 else "the larger of the two ratios that were run"
    return f"in the middle of the {run} ratios that were run"


def gathered(
    shown: Sequence[Shown], source: str | None, targets: Sequence[str] | None, cache: str | None, whole: bool = True
) -> list[Evidence]:
    """Collects images and votes of the Selections. A missing dataset is noted, or an error if the user named it.

    Args:
        shown: Selections to show.
        source: Location of the source given by the user; None to use the location in the Selection.
        targets: Targets named by the user, in page order; None to use those in the Selections.
        cache: Cache folder.
        whole: Whether tables of units are as long as on a page about Selections alone.

    Raises:
        InputError: If a dataset named by the user is not the one a Selection was made from.
    """
    wanted = [name for one in shown for name in one.targets]
    if targets is not None and len(targets) != len(wanted):
        known = f" ({', '.join(wanted)})" if wanted else ""
        raise InputError(f"targets on this page: {len(wanted)}{known}; --target names {len(targets)}")
    sources, found, place = _Sources(source, cache), [], 0
    for one in shown:
        names = one.targets if targets is None else list(targets[place : place + len(one.targets)])
        place += len(one.targets)
        notes: list[str] = []
        assignments = _votes(one.selection, names, notes, must=targets is not None)
        images = sources.images(one, notes)
        rows = LISTED if whole else _ROWS_OF_A_SWEEP
        try:
            evidence = gather(one.title, one.selection, one.budget, one.why, images, assignments, rows)
        except InputError as error:  # a file was removed after the source was listed, or cannot be decoded
            notes.append(f"Pictures of the source are left out: {error}.")
            evidence = gather(one.title, one.selection, one.budget, one.why, None, assignments, rows)
        found.append(replace(evidence, notes=notes, origin=origin(one.selection)))
    return found


def _votes(selection: Selection, names: list[str], notes: list[str], must: bool) -> list[Votes]:
    if not len(selection.assignments):
        return []
    try:
        voters = opened_targets(selection, names)
    except InputError as error:
        if must:
            raise
        notes.append(_hinted("Votes are not split by the target's classes", error, "--target"))
        return []
    labelled = [one for one in voters if one.images.classes]
    if bare := [one.name for one in voters if not one.images.classes]:
        notes.append(f"Votes are not split by the classes of {' and '.join(bare)}: its images have no labels.")
    return [Votes(one.name, one.images.display_names, one.images.labels, one.assignments) for one in labelled]


def _hinted(missing: str, error: InputError, option: str) -> str:
    hint = "" if option in str(error) else f"; {option} says where it is"
    return f"{missing}: {error}{hint}."


def _as_given(budget: Budget) -> str:
    option, value = str(budget).replace("`", "").split()
    return f"as --{option} {value} says"


class _Sources:
    """Sources of several Selections, each opened once."""

    def __init__(self, given: str | None, cache: str | None) -> None:
        self.given = given
        self.cache = cache
        self.opened: dict[str, ImageSet] = {}

    def images(self, shown: Shown, notes: list[str]) -> ImageSet | None:
        """Returns the source; None, with an entry in ``notes``, if it is missing or has no images."""
        selection = shown.selection
        if not selection.sizes_known and self.given is None:
            notes.append("Pictures of the source are left out: only its class names are known.")
            return None
        digest = str(selection.config.get("source_digest"))
        name = self.given or selection.metadata.get("source") or shown.source
        try:
            if digest not in self.opened:
                self.opened[digest] = self._open(selection, name)
        except InputError as error:
            if self.given is not None:
                raise
            notes.append(_hinted("Pictures of the source are left out", error, "--source"))
            return None
        images = self.opened[digest]
        if isinstance(images, FeatureSet):
            notes.append("Pictures of the source are left out: it is given as features.")
            return None
        return images

    def _open(self, selection: Selection, name: str | None) -> ImageSet:
        if name == BUILT_IN_SOURCE and selection.metadata.get("source") is None:
            # Experiments hold the source in memory, where its name is derived from its pixels
            images = TensorImages.from_images(open_source(name, self.cache)[0])
            selection.require_source(images.fingerprint(), f"source {name}")
            return images
        return opened_source(selection, name, self.cache)
