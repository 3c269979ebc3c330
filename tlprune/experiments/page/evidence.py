"""What a Selection keeps and drops, who voted for what, and how much of the vote that covers, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.experiments.page.units import LISTED, Band, Units, UnitTable
from tlprune.experiments.wording import seconds
from tlprune.selection.advisor import SUGGESTED_COVERAGE, advise, suggested_images
from tlprune.selection.diagnostics import Diagnosis
from tlprune.selection.ranking import Budget
from tlprune.selection.selection import UNIT_WORDS, Selection

__all__ = ["Evidence", "Flow", "FlowRow", "Votes", "gather", "suggested_budget"]

_COLUMNS = 12
_ROWS = 24


@dataclass(frozen=True, eq=False)
class Votes:
    """The votes of one target's training images.

    Args:
        target: Its name.
        classes: Its class names.
        labels: ``[M]`` int64, the class of each image.
        units: ``[M]`` int64, the unit that each voted for.
    """

    target: str
    classes: Sequence[str]
    labels: Tensor
    units: Tensor


@dataclass(frozen=True)
class FlowRow:
    """Where the votes of one target class went.

    Args:
        name: Of the class.
        images: Its images, all of which voted.
        votes: For each column of the flow.
        kept: The share of them that voted for a kept unit.
    """

    name: str
    images: int
    votes: list[int]
    kept: float


@dataclass(frozen=True)
class Flow:
    """Target class by source unit.

    Args:
        target: Name of the target.
        columns: The units with the most votes of this target and whether each is kept; then all other kept ones and
            all other dropped ones, as far as they have votes.
        rows: The target's classes.
    """

    target: str
    columns: list[tuple[str, bool]]
    rows: list[FlowRow]


@dataclass
class Evidence:
    """What is shown of a Selection.

    Args:
        title: Whose it is.
        selection: It.
        kept: How many units are kept.
        images_kept: How many source images; 0 where only class names are known.
        why: Why so many, in words.
        units: Units as they are shown.
        sheet: Contact sheet of some units.
        table: Table of all or most units.
        flows: One for each target whose images were found.
        diagnoses: Diagnostics by the name of the target, if they were computed.
        notes: What is missing, in sentences.
        origin: What it was made from, as pairs of a word and a text.
    """

    title: str
    selection: Selection
    kept: int
    images_kept: int
    why: str
    units: Units
    sheet: list[Band]
    table: UnitTable
    flows: list[Flow] = field(default_factory=list)
    diagnoses: list[tuple[str, Diagnosis]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origin: list[tuple[str, str]] = field(default_factory=list)

    @property
    def unit_words(self) -> str:
        """What a unit is called, in the plural."""
        return UNIT_WORDS[self.selection.unit_kind][1]

    @property
    def pictured(self) -> bool:
        """Whether there are images of units."""
        return any(unit.pictures for band in self.sheet for unit in band.units)

    @property
    def covered(self) -> float | None:
        """The share of votes that is kept; None where nobody voted."""
        return self.selection.coverage(self.kept) if len(self.selection.assignments) else None

    @property
    def cost(self) -> str:
        """What making it took, in a sentence; empty where its record does not say."""
        record = self.selection.metadata
        said = [f"{stage} {seconds(spent)}" for stage, spent in record.get("seconds", {}).items()]
        if isinstance(surrogate := record.get("surrogate_seconds"), int | float):
            said.append(f"training the surrogate {seconds(surrogate)}")
        return f"What it took: {', '.join(said)}." if said else ""

    @property
    def with_votes(self) -> int:
        """How many units have votes."""
        return int((self.selection.votes > 0).sum())


def suggested_budget(selection: Selection) -> tuple[Budget, str]:
    """How much to show as kept where no budget is known, and why."""
    if (images := suggested_images(selection)) is not None:
        return Budget(units=images), "up to where the similarity to the target's images falls"
    if selection.method != "reverse" and float(selection.covered[-1]) > 0:
        why = f"the fewest that hold {100 * SUGGESTED_COVERAGE:.0f} % of the votes"
        return Budget(units=advise(selection).suggested), why
    why = "half of them, since a Selection without votes suggests no number"
    return Budget(units=max(selection.num_units // 2, 1)), why


def gather(
    title: str,
    selection: Selection,
    budget: Budget,
    why: str,
    source: ImageSet | None,
    votes: Sequence[Votes],
    rows: int = LISTED,
) -> Evidence:
    """What is shown of a Selection.

    Args:
        title: Whose it is.
        selection: It.
        budget: How much is kept.
        why: Why so much, in words.
        source: Images of the source; None to show none.
        votes: Of each target whose images were found.
        rows: Most rows of the table of units.

    Raises:
        InputError: The budget does not fit the Selection, or an image cannot be read.
    """
    found = selection.kept(budget)
    kept = len(found.units)
    units = Units(selection, kept, source)
    sheet, table = units.sheet(), units.table(rows)
    flows = [_flow(selection, kept, one) for one in votes if len(one.units)]
    return Evidence(title, selection, kept, len(found.samples), why, units, sheet, table, flows)


def _flow(selection: Selection, kept: int, assignments: Votes) -> Flow:
    units, classes = selection.num_units, len(assignments.classes)
    table = torch.bincount(assignments.labels * units + assignments.units, minlength=classes * units).view(
        classes, units
    )
    is_kept = torch.zeros(units, dtype=torch.bool)
    is_kept[selection.ranking[:kept]] = True
    totals = table.sum(0)
    voted = totals.argsort(descending=True, stable=True)[: int((totals > 0).sum())]
    top, rest = voted[:_COLUMNS], voted[_COLUMNS:]
    columns = [(selection.name(unit), bool(is_kept[unit])) for unit in top.tolist()]
    parts = [table[:, top]]
    for state, word in ((True, "kept"), (False, "dropped")):
        others = rest[is_kept[rest] == state]
        if len(others):
            columns.append((f"{len(others)} more {word}", state))
            parts.append(table[:, others].sum(1, keepdim=True))
    cells = torch.cat(parts, 1)
    in_kept = (table * is_kept).sum(1)
    images = table.sum(1)
    shown = images.argsort(descending=True, stable=True)[:_ROWS].sort().values
    rows = [
        FlowRow(assignments.classes[one], int(images[one]), cells[one].tolist(), float(in_kept[one] / images[one]))
        for one in shown.tolist()
        if images[one] > 0
    ]
    hidden = torch.ones(classes, dtype=torch.bool)
    hidden[shown] = False
    if hidden.any() and (total := int(images[hidden].sum())):
        share = float(in_kept[hidden].sum() / total)
        rows.append(FlowRow(f"{int(hidden.sum())} more classes", total, cells[hidden].sum(0).tolist(), share))
    return Flow(assignments.target, columns, rows)
