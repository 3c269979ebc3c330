"""The Selection: an immutable ranking, saved to one checksummed file and loaded without executing code."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, wraps
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from tlprune.errors import InputError, did_you_mean
from tlprune.selection.checking import UnitKind, check_fields
from tlprune.selection.explanation import Explanation
from tlprune.selection.ranking import ArgumentBudget, Budget, Kept, coverage, kept
from tlprune.selection.selection_file import OPTIONAL, SCHEMA, TENSORS, reading_selection_file, write_selection_file
from tlprune.storage.fingerprint import digest_json, digest_tensors
from tlprune.wordnet import readable_names

__all__ = ["UNIT_WORDS", "Explanation", "Selection", "UnitKind"]

UNIT_WORDS = {"class": ("class", "classes"), "cluster": ("cluster", "clusters"), "sample": ("image", "single images")}
"""Singular and plural display names of each unit kind."""

_FIELD_OF_TENSOR = {"ballots": "assignments"}
"""Field names that differ from the tensor names in the file."""

_MATRICES = ("target_votes", "centroids")

_FORMER_NAMES = {"ballots": "assignments", "record": "metadata", "settings": "config"}


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """A total order of the source's units, with the votes behind it. One ranking serves every budget.

    Args:
        method: Name of the method, such as ``label_mapping``.
        unit_names: ``U`` class names; empty if units are not classes. :meth:`name` returns a name for any unit.
        ranking: Int64 tensor ``[U]``, a permutation of the units, best first.
        votes: Float64 tensor ``[U]``, the votes of each unit.
        scores: Float64 tensor ``[U]``, the scores that break ties between equal votes.
        unit_of_sample: Int32 tensor ``[N]``, the unit of each source sample in dataset order; empty for a source of
            class names, whose units have an unknown size.
        assignments: Int64 tensor ``[M]``, the unit each target image voted for, concatenated over targets; empty
            without votes.
        config: Settings that affect the order, as JSON values: digests of source, target and surrogate, seed, options.
        metadata: Information that does not affect the order: versions, seconds by stage.
        unit_kind: Kind of the units.
        target_votes: Float64 tensor ``[T, U]``, the votes of each of several targets; ``[0, U]`` for one target.
        covers_each_target: Whether coverage is that of the least covered target, rather than that of all votes.
        asked_by: Int32 tensor ``[U]``, the target image each unit is kept for, indexed over all targets; -1 for none;
            empty if units are not kept for single images.
        centroids: Float32 tensor ``[U, D]``, the centre of each unit in the surrogate's feature space, by which images
            of other sources find their unit; empty where the method has none.

    Raises:
        InputError: If fields are inconsistent, or votes or scores are not finite.
    """

    method: str
    unit_names: tuple[str, ...]
    ranking: Tensor
    votes: Tensor
    scores: Tensor
    unit_of_sample: Tensor
    assignments: Tensor
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    unit_kind: UnitKind = "class"
    target_votes: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    covers_each_target: bool = False
    asked_by: Tensor = field(default_factory=lambda: torch.empty(0))
    centroids: Tensor = field(default_factory=lambda: torch.empty(0, 0))

    def __post_init__(self) -> None:
        for tensor_name, dtype in (TENSORS | OPTIONAL).items():
            name = _FIELD_OF_TENSOR.get(tensor_name, tensor_name)
            tensor = getattr(self, name)
            if tensor.ndim != (2 if name in _MATRICES else 1):
                raise InputError(f"`{name}` of a selection cannot have the shape {tuple(tensor.shape)}")
            object.__setattr__(self, name, tensor.to(dtype).contiguous())
        if len(self.target_votes) == 0:
            object.__setattr__(self, "target_votes", torch.empty(0, self.num_units, dtype=torch.float64))
        if len(self.centroids) == 0:
            object.__setattr__(self, "centroids", torch.empty(0, 0))
        check_fields(self)

    def __repr__(self) -> str:
        """One line: the method, numbers of units and images, and the first units of the ranking."""
        units, images = self.num_units, len(self.unit_of_sample)
        size = f"{units:,} {UNIT_WORDS[self.unit_kind][units != 1]}" + (f" of {images:,} images" if images else "")
        first = ", ".join(self.name(int(unit)) for unit in self.ranking[:3])
        return f"Selection({self.method}: {size}, first {first})"

    @property
    def num_units(self) -> int:
        """Number of units, ``U``."""
        return len(self.ranking)

    @property
    def unit_sizes(self) -> Tensor:
        """Int64 tensor ``[U]``, the number of source samples in each unit; zeros unless :attr:`sizes_known`."""
        return torch.bincount(self.unit_of_sample.long(), minlength=self.num_units)

    @property
    def sizes_known(self) -> bool:
        """Whether source images are known, and so the size of each unit; False for a source of class names."""
        return len(self.unit_of_sample) > 0

    def require_images(self) -> None:
        """Rejects this selection where source images are needed and it was made from class names alone.

        Raises:
            InputError: If :attr:`sizes_known` is false.
        """
        if not self.sizes_known:
            what = "made from class names, without images: export its classes ('tlprune export --format classes')"
            raise InputError(f"this selection was {what}, and select from the images by ListSelector with that list")

    @cached_property
    def digest(self) -> str:
        """Digest of the order, without timings, versions and centroids; equal on every machine for equal orders."""
        tensors = {name: tensor for name, tensor in self._tensors().items() if name != "centroids"}
        return digest_json([self._header(tensors), digest_tensors(tensors)])

    def name(self, unit: int) -> str:
        """Returns the display name of a unit: a class's display name or name, or ``cluster 7``, ``sample 7``."""
        return self.display_names[unit] if self.unit_kind == "class" else f"{self.unit_kind} {unit}"

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of source images that could not be decoded; they are not samples of this selection."""
        noted = self.metadata.get("skipped")
        return tuple(one for one in noted if isinstance(one, str)) if isinstance(noted, list) else ()

    @cached_property
    def display_names(self) -> tuple[str, ...]:
        """Readable names of classes whose names are codes, from the metadata or by WordNet id; else the class names."""
        noted = self.metadata.get("titles")
        if (
            isinstance(noted, list)
            and len(noted) == len(self.unit_names)
            and all(isinstance(one, str) for one in noted)
        ):
            return tuple(noted)
        return readable_names(self.unit_names)

    def example(self, unit: int) -> int:
        """Returns the index of an image from a unit's middle; clusters start with images of the first classes.

        Args:
            unit: Index of the unit, in [0, U).

        Raises:
            InputError: If no image belongs to the unit.
        """
        members = (self.unit_of_sample == unit).nonzero().squeeze(1)
        if len(members) == 0:
            raise InputError(f"{self.name(unit)}: no image of the source belongs to it")
        return int(members[len(members) // 2])

    @property
    def vote_entropy(self) -> float:
        """Entropy of the votes in bits: 0 if one unit has all votes, ``log2(U)`` if votes are uniform."""
        shares = self.votes / self.votes.sum().clamp(min=torch.finfo(torch.float64).tiny)
        return float(torch.special.entr(shares).sum()) / math.log(2)

    @cached_property
    def covered(self) -> Tensor:
        """Float64 tensor ``[U]``: entry ``k - 1`` is the share of votes of the best ``k`` units.

        With several targets this is the coverage of the least covered target among those that voted, unless the
        targets were summed.
        """
        voted = self.target_votes.sum(1) > 0
        if voted.any() and self.covers_each_target:
            return self.covered_by_target[voted].amin(0)
        return coverage(self.votes, self.ranking)

    @property
    def covered_by_target(self) -> Tensor:
        """Float64 tensor ``[T, U]``: :attr:`covered` for each of several targets."""
        shares = [coverage(votes, self.ranking) for votes in self.target_votes]
        return torch.stack(shares) if shares else self.target_votes

    def kept(self, budget: Budget) -> Kept:
        """Returns the units and the samples within a budget.

        Args:
            budget: Amount to keep.

        Raises:
            InputError: See :meth:`units_kept`.
        """
        return kept(self, budget)

    def units_kept(self, budget: Budget) -> Tensor:
        """Returns the best units within a budget, ``[k]`` int64, best first.

        Args:
            budget: Amount to keep.

        Raises:
            InputError: If the budget exceeds the number of units, or is a share of votes and there are no votes.
        """
        return self.kept(budget).units

    def keep(
        self,
        *,
        ratio: float | None = None,
        units: int | None = None,
        images: int | None = None,
        coverage: float | None = None,
        exactly: int | None = None,
    ) -> Tensor:
        """Returns the source samples of the best units within a budget. Exactly one argument must be given.

        Args:
            ratio: Share of units to remove, in [0, 1).
            units: Number of units to keep.
            images: Maximum number of images to keep.
            coverage: Share of votes that the kept units must hold, in (0, 1].
            exactly: Number of images to keep; the last unit is cut.

        Returns:
            Int64 tensor of the *kept* sample indices, ascending (dataset order).

        Raises:
            InputError: See :class:`tlprune.selection.ranking.Budget` and :meth:`units_kept`.
        """
        return self.kept(ArgumentBudget(ratio, units, images, coverage, exactly)).samples

    def coverage(self, units: int) -> float:
        """Returns the share of votes of the best ``units`` units, in [0, 1]."""
        return float(self.covered[units - 1])

    def diff(self, other: "Selection", budget: Budget) -> tuple[Tensor, Tensor]:
        """Compares the units kept by this selection with those kept by another selection of the same source.

        Args:
            other: Selection that ranks the same units.
            budget: Amount that each selection keeps.

        Returns:
            Units only ``other`` keeps, and units only this selection keeps; ascending, int64.

        Raises:
            InputError: If the selections rank different units or units of different sources.
        """
        if self.unit_kind != other.unit_kind:
            kinds = f"{UNIT_WORDS[self.unit_kind][1]}, the other {UNIT_WORDS[other.unit_kind][1]}"
            raise InputError(
                f"one of these selections ranks {kinds}; 'tlprune advise' with both compares the images that they keep"
            )
        if self.config.get("source_digest") != other.config.get("source_digest"):
            raise InputError("these selections were made for different sources")
        if self.unit_names != other.unit_names or not torch.equal(self.unit_of_sample, other.unit_of_sample):
            raise InputError(f"these selections rank different units ({self.num_units} and {other.num_units} of them)")
        mine, theirs = (set(one.units_kept(budget).tolist()) for one in (self, other))
        gained, lost = sorted(theirs - mine), sorted(mine - theirs)
        return torch.tensor(gained, dtype=torch.int64), torch.tensor(lost, dtype=torch.int64)

    def unit(self, name: str) -> int:
        """Returns the index of the unit with the given name.

        Args:
            name: Name as returned by :meth:`name`, or a class name; for clusters and samples the number suffices.

        Raises:
            InputError: If there is no such unit; the message suggests the closest name.
        """
        if self.unit_kind != "class":
            number = name.removeprefix(self.unit_kind).strip()
            if not number.isdecimal() or len(number) > 18 or int(number) >= self.num_units:
                raise InputError(f"no unit {name!r}: the {self.unit_kind}s are numbered 0 to {self.num_units - 1}")
            return int(number)
        names = self.unit_names if name in self.unit_names else self.display_names
        if name not in names:
            raise InputError(f"no unit {name!r}: {did_you_mean(name, names)}")
        return names.index(name)

    def explain(self, unit: int) -> Explanation:
        """Returns the rank of a unit and the images that voted for it.

        Args:
            unit: Index of the unit, in [0, U).
        """
        return Explanation(
            rank=int((self.ranking == unit).nonzero()[0]) + 1,
            votes=float(self.votes[unit]),
            score=float(self.scores[unit]),
            samples=(self.unit_of_sample == unit).nonzero().squeeze(1),
            voters=self.voters_of(unit),
        )

    def voters_of(self, unit: int) -> Tensor:
        """Returns the target images that voted for a unit or that it is kept for: int64 ``[m]``, ascending."""
        voters = self.assignments == unit
        if len(self.asked_by) and (asking := int(self.asked_by[unit])) >= 0:
            voters[asking] = True
        return voters.nonzero().squeeze(1)

    def require_source(self, digest: str, where: str) -> None:
        """Rejects a source other than the one this selection was made for.

        Args:
            digest: Digest of the given source.
            where: Name of the source in the error message.

        Raises:
            InputError: If the digests differ.
        """
        made_for = self.config.get("source_digest")
        if made_for != digest:
            self.require_images()
            other = f"it names {str(made_for)[:12]}, {where} is {digest[:12]}"
            path = f"; it was made from {self.metadata['source']}" if self.metadata.get("source") else ""
            raise InputError(f"this selection was made for another source: {other}{path}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file with a JSON header, atomically.

        Args:
            path: Path of the file, conventionally ``*.safetensors``.

        Raises:
            InputError: If the file cannot be written, or :meth:`load` would reject the ``config`` or ``metadata``.
        """
        tensors = self._tensors()
        write_selection_file(path, self._header(tensors) | {"record": self.metadata}, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Selection":
        """Reads a file written by :meth:`save` without executing any of its content.

        Args:
            path: Path of the file.

        Returns:
            The selection.

        Raises:
            InputError: If the file is missing, damaged, of a newer layout, or not a selection.
        """
        with reading_selection_file(path) as (header, tensors):
            return cls(
                method=header["method"],
                unit_names=tuple(header["unit_names"]),
                config=header["settings"],
                metadata=header["record"],
                unit_kind=header["unit_kind"],
                covers_each_target=header["covers_each_target"],
                **{_FIELD_OF_TENSOR.get(name, name): tensor for name, tensor in tensors.items()},
            )

    def _tensors(self) -> dict[str, Tensor]:
        known = {name: getattr(self, _FIELD_OF_TENSOR.get(name, name)) for name in TENSORS | OPTIONAL}
        return {name: tensor for name, tensor in known.items() if name in TENSORS or len(tensor)}

    def _header(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "schema": SCHEMA if OPTIONAL.keys() & tensors.keys() else 2,
            "method": self.method,
            "unit_names": list(self.unit_names),
            "settings": self.config,
            "unit_kind": self.unit_kind,
            "covers_each_target": self.covers_each_target,
        }


def _with_former_names(construct: Callable[..., None]) -> Callable[..., None]:
    """Lets selectors of other packages pass fields by their former names."""

    @wraps(construct)
    def accept(self: Selection, *values: Any, **fields: Any) -> None:
        construct(self, *values, **{_FORMER_NAMES.get(name, name): value for name, value in fields.items()})

    return accept


Selection.__init__ = _with_former_names(Selection.__init__)  # type: ignore[method-assign]
for _former, _field in _FORMER_NAMES.items():
    setattr(Selection, _former, property(attrgetter(_field), doc=f"As ``{_field}``."))
