"""Units on the page: a contact sheet of some, with images of each, and a table of all or of most."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import torch
from PIL import Image
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.selection.score_column import score_column
from tlprune.selection.selection import Selection

__all__ = ["LISTED", "Band", "Unit", "UnitTable", "Units", "thumbnail"]

LISTED = 1600
"""Most rows of the table of units."""

_BEST, _BORDER, _LOWEST = 1000, 250, 100
"""Rows of a longer table: the best units, those on either side of the border, and the lowest."""

_BANDS = {"class": (12, 6), "cluster": (12, 6), "sample": (24, 12)}
"""Units of the first band of the contact sheet, and of each further one."""

_IMAGES = 4
_CLASSES = 3
_SIDE = 64


@dataclass(frozen=True)
class Unit:
    """A unit on the page.

    Args:
        name: Display name: of a class, of a cluster by its number, of the file of a single image.
        code: Class name or number that commands take; empty where it is the name.
        note: Classes of the unit's images, for clusters and single images of a labelled source; else empty.
        rank: From 1, the best.
        kept: Whether it is kept.
        votes: As text; empty where nobody voted.
        score: As text; empty where the method has no scores.
        images: Number of its source images; None where only class names are known.
        pictures: Some of its images as data URIs.
    """

    name: str
    code: str
    note: str
    rank: int
    kept: bool
    votes: str
    score: str
    images: int | None
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Band:
    """Neighbouring units of the contact sheet.

    Args:
        title: Heading.
        kept: Whether these are kept.
        units: Best first.
    """

    title: str
    kept: bool
    units: list[Unit]


@dataclass(frozen=True)
class UnitTable:
    """Units in the order of their ranks.

    Args:
        columns: Which of the columns ``code``, ``note``, ``votes``, ``score`` and ``images`` have entries.
        score: Heading of the column of scores.
        rows: Units without pictures.
        left_out: Number of units without a row.
    """

    columns: list[str]
    score: str
    rows: list[Unit]
    left_out: int


class Units:
    """Units of a Selection as they are shown.

    Args:
        selection: Selection that is shown.
        kept: Number of kept units, at least 1.
        source: Images of the source; None where they are not found.
    """

    def __init__(self, selection: Selection, kept: int, source: ImageSet | None) -> None:
        self.selection, self.kept, self.source = selection, kept, source
        self._score, self._scale = score_column(selection)
        self._whole = bool((selection.votes == selection.votes.round()).all())

    def sheet(self) -> list[Band]:
        """Returns the best kept units, those on either side of the border, and the lowest, with images.

        Raises:
            InputError: An image cannot be read.
        """
        first, further = _BANDS[self.selection.unit_kind]
        total, kept = self.selection.num_units, self.kept
        begin = min(first, kept) if kept <= first + further else first
        cuts = [("Kept: ranked highest", 0, kept if kept <= first + further else begin)]
        if kept > first + further:
            cuts.append(("Kept: last before the border", kept - further, kept))
        if kept < total:
            end = total if total - kept <= 2 * further else kept + further
            cuts.append(("Dropped: first beyond the border" if end < total else "Dropped", kept, end))
            if end < total:
                cuts.append(("Dropped: ranked lowest", total - further, total))
        return [
            Band(title, low < kept, [self._unit(rank, True) for rank in range(low, high)]) for title, low, high in cuts
        ]

    def table(self, most: int = LISTED) -> UnitTable:
        """Returns all units, or of more than ``most`` the best, those at the border and the lowest.

        Args:
            most: Most rows, at most :data:`LISTED`.
        """
        total = self.selection.num_units
        ranks = list(range(total))
        if total > most:
            best, border, lowest = (count * most // LISTED for count in (_BEST, _BORDER, _LOWEST))
            chosen = {*range(best), *range(max(self.kept - border, 0), min(self.kept + border, total))}
            ranks = sorted(chosen | set(range(total - lowest, total)))
        rows = [self._unit(rank, False) for rank in ranks]
        names = ["code", "note", "votes", "score", *(["images"] if self.selection.unit_kind != "sample" else [])]
        columns = [name for name in names if any(getattr(row, name) not in ("", None) for row in rows)]
        return UnitTable(columns, self._score, rows, total - len(rows))

    def names(self, low: int, high: int) -> list[str]:
        """Returns the names of the units of ranks ``low`` to ``high``, counted from 0, without the last.

        Clusters of a labelled source are followed by their most frequent classes.
        """
        found = []
        for unit in self.selection.ranking[low:high].tolist():
            classes = [name for name, _ in self._classes_of(unit)[:2]] if self.selection.unit_kind == "cluster" else []
            found.append(f"{self._name(unit)} ({', '.join(classes)})" if classes else self._name(unit))
        return found

    def classes_of_kept(self, most: int) -> list[tuple[str, int]]:
        """Returns the ``most`` frequent classes of the kept units' images with their numbers; none without labels."""
        is_kept = torch.zeros(self.selection.num_units, dtype=torch.bool)
        is_kept[self.selection.ranking[: self.kept]] = True
        return self._frequent(is_kept[self.selection.unit_of_sample.long()].nonzero().squeeze(1), most)

    def _unit(self, rank: int, pictured: bool) -> Unit:
        selection = self.selection
        unit = int(selection.ranking[rank])
        name = self._name(unit)
        known = selection.unit_names[unit] if selection.unit_kind == "class" else selection.name(unit)
        votes = f"{selection.votes[unit]:,.{0 if self._whole else 2}f}" if len(selection.assignments) else ""
        score = f"{float(selection.scores[unit]) * self._scale:.4g}" if self._scored else ""
        images = int(self._sizes[unit]) if selection.sizes_known else None
        pictures = tuple(self._pictures(unit)) if pictured else ()
        code = known if known != name else ""
        return Unit(name, code, self._note(unit, name), rank + 1, rank < self.kept, votes, score, images, pictures)

    def _name(self, unit: int) -> str:
        if self.selection.unit_kind == "sample" and self.source is not None and len(members := self._members(unit)):
            return self.source.name(int(members[0]))
        return self.selection.name(unit)

    def _note(self, unit: int, name: str) -> str:
        """Returns the classes that most images of a cluster have, or the class of a single image."""
        if self.selection.unit_kind == "class":
            return ""
        found = self._classes_of(unit)
        if self.selection.unit_kind == "sample":
            return found[0][0] if found and not name.startswith(f"{found[0][0]}/") else ""
        return ", ".join(f"{one} {count / int(self._sizes[unit]):.0%}" for one, count in found)

    def _classes_of(self, unit: int) -> list[tuple[str, int]]:
        return self._frequent(self._members(unit), _CLASSES) if self.source is not None else []

    def _frequent(self, members: Tensor, most: int) -> list[tuple[str, int]]:
        if self.source is None or not self.source.classes:
            return []
        counts = self.source.labels[members].bincount(minlength=len(self.source.classes))
        best = counts.argsort(descending=True, stable=True)[:most]
        return [(str(self._classes[label]), int(counts[label])) for label in best.tolist() if counts[label]]

    def _pictures(self, unit: int) -> Iterator[str]:
        if self.source is None:
            return
        members = self._members(unit)
        count = min(len(members), _IMAGES)
        for place in range(count):
            yield thumbnail(self.source[int(members[(2 * place + 1) * len(members) // (2 * count)])][0])

    def _members(self, unit: int) -> Tensor:
        return self._by_unit[int(self._ends[unit] - self._sizes[unit]) : int(self._ends[unit])]

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return () if self.source is None else self.source.display_names

    @cached_property
    def _scored(self) -> bool:
        return bool(self.selection.scores.any())

    @cached_property
    def _sizes(self) -> Tensor:
        return self.selection.unit_sizes

    @cached_property
    def _ends(self) -> Tensor:
        return self._sizes.cumsum(0)

    @cached_property
    def _by_unit(self) -> Tensor:
        """Samples, those of the first unit first."""
        return self.selection.unit_of_sample.argsort(stable=True)


def thumbnail(image: Tensor) -> str:
    """An image as a data URI, at most 64 pixels high and wide: PNG where it is smaller than JPEG, as of drawings.

    Args:
        image: ``[3, H, W]`` uint8.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((_SIDE, _SIDE))
    found = {"png": _encoded(picture, "png", optimize=True), "jpeg": _encoded(picture, "jpeg", quality=82)}
    kind = min(found, key=lambda name: len(found[name]))
    return f"data:image/{kind};base64,{base64.b64encode(found[kind]).decode()}"


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    content = BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()
