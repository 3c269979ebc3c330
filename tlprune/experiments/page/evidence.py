"""What a Selection keeps and drops, who voted for what, and how much of the vote that covers, as plain data."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from tlprune.experiments.wording import seconds
from tlprune.selection.advisor import SUGGESTED_COVERAGE, advise
from tlprune.selection.selection import UNIT_WORDS, Selection

__all__ = ["PICTURED", "Evidence", "Flow", "FlowRow", "Unit", "Votes", "gather", "suggested_units", "thumbnail"]

PICTURED = 60
"""The most kept, and the most dropped units that are shown one by one; of more, the ends of both lists."""

_NAMED = 1000
_THUMBNAIL = 64
_COLUMNS = 12
_ROWS = 24

Example = Callable[[int], Tensor]
"""Gives an image ``[3, H, W]`` uint8 of a unit."""


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
class Unit:
    """A unit on the page.

    Args:
        name: What a person calls it.
        rank: From 1, the best.
        votes: As text; empty where nobody voted.
        images: Its source images; None where only class names are known.
        picture: An image of it as a data URI; None without one.
    """

    name: str
    rank: int
    votes: str
    images: int | None
    picture: str | None


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
        why: Why so many, in words.
        kept_units: Kept units, best first.
        dropped_units: Dropped units, best first.
        named: Names of units that are not among those, in order of rank; at most a thousand.
        unnamed: How many units are not even named.
        flows: One for each target whose images were found.
        notes: What is missing, in sentences.
        origin: What it was made from, as pairs of a word and a text.
    """

    title: str
    selection: Selection
    kept: int
    why: str
    kept_units: list[Unit] = field(default_factory=list)
    dropped_units: list[Unit] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    unnamed: int = 0
    flows: list[Flow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origin: list[tuple[str, str]] = field(default_factory=list)

    @property
    def units(self) -> str:
        """What a unit is called, in the plural."""
        return UNIT_WORDS[self.selection.unit_kind][1]

    @property
    def images_kept(self) -> int:
        """Source images of what is kept."""
        return int(self.selection.unit_sizes[self.selection.ranking[: self.kept]].sum())

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


def suggested_units(selection: Selection) -> tuple[int, str]:
    """How many units to show as kept where no budget is known, and why."""
    if selection.method != "reverse" and float(selection.covered[-1]) > 0:
        return advise(selection).suggested, f"the fewest that hold {SUGGESTED_COVERAGE:.0%} of the votes"
    return max(selection.num_units // 2, 1), "half of them, since a Selection without votes suggests no number"


def gather(
    title: str,
    selection: Selection,
    kept: int,
    why: str,
    example: Example | None,
    assignments: Sequence[Votes],
) -> Evidence:
    """What is shown of a Selection.

    Args:
        title: Whose it is.
        selection: It.
        kept: How many units are kept, at least 1.
        why: Why so many, in words.
        example: Gives an image of a unit; None to show none.
        assignments: Of each target whose images were found.
    """
    found = Evidence(title, selection, kept, why)
    order = selection.ranking.tolist()
    ranks = {unit: rank for rank, unit in enumerate(order, 1)}
    sizes = selection.unit_sizes.tolist()
    shown: list[list[int]] = [_ends(order[:kept]), _ends(order[kept:])]
    for units, entries in zip(shown, (found.kept_units, found.dropped_units), strict=True):
        for unit in units:
            picture = None if example is None or sizes[unit] == 0 else thumbnail(example(unit))
            images = sizes[unit] if selection.sizes_known else None
            entries.append(Unit(selection.name(unit), ranks[unit], _votes(selection, unit), images, picture))
    left = sorted(set(order) - {unit for units in shown for unit in units}, key=ranks.__getitem__)
    found.named = [selection.name(unit) for unit in left[:_NAMED]]
    found.unnamed = max(len(left) - _NAMED, 0)
    found.flows = [_flow(selection, kept, one) for one in assignments if len(one.units)]
    return found


def thumbnail(image: Tensor) -> str:
    """An image as a data URI, at most 64 pixels high and wide.

    Args:
        image: ``[3, H, W]`` uint8.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    small = max(picture.size) <= _THUMBNAIL
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    content = BytesIO()
    kind = "png" if small else "jpeg"  # small ones may be drawings, which JPEG blurs
    picture.save(content, kind, **({"optimize": True} if small else {"quality": 82}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _ends(units: list[int]) -> list[int]:
    return units if len(units) <= PICTURED else units[: PICTURED // 2] + units[-PICTURED // 2 :]


def _votes(selection: Selection, unit: int) -> str:
    if not len(selection.assignments):
        return ""
    votes = f"{selection.votes[unit]:.4g}"
    return f"{votes} {'vote' if votes == '1' else 'votes'}"


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
