"""The sets that a Selection was made from, opened again and checked to be the same."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.data.target_splits import open_target
from tlprune.errors import InputError
from tlprune.selection.selection import Selection

__all__ = ["Voters", "opened_source", "opened_targets"]


def opened_source(selection: Selection, source: str | None, cache: str | None) -> ImageSet:
    """The source that a Selection was made for.

    Args:
        selection: Names it.
        source: Where the user says that it lies; None asks the Selection.
        cache: The cache folder.

    Raises:
        InputError: It is not to be found, or another one.
    """
    name = source or selection.metadata.get("source")
    if name is None:
        raise InputError("this selection does not say where its source lies; give --source")
    from tlprune.data.sources import open_source  # with torchvision, for which those who open targets need not wait

    images, _ = open_source(name, cache)
    if selection.skipped:
        left_out = set(selection.skipped)
        stay = [index for index in range(len(images)) if images.name(index) not in left_out]
        images = images.subset(torch.tensor(stay, dtype=torch.int64))
    selection.require_source(images.fingerprint(), f"source {name}")
    return images


@dataclass(frozen=True)
class Voters:
    """The training images of one target, checked to be those that voted.

    Args:
        name: Of the target.
        images: Those that voted.
        test: The target's test images, which did not; None where it has none.
        assignments: ``[M]`` int64, the unit that each voted for; empty where nobody voted.
        asked_by: ``[U]`` int64, the image that each unit is kept for, outside [0, M) for none of this target; or empty.
    """

    name: str
    images: ImageSet
    test: ImageSet | None
    assignments: Tensor
    asked_by: Tensor

    def of_unit(self, unit: int) -> Tensor:
        """Images that voted for a unit, or that it is kept for: ``[m]`` int64, ascending."""
        voted = self.assignments == unit
        if len(self.asked_by) and 0 <= (asking := int(self.asked_by[unit])) < len(voted):
            voted[asking] = True
        return voted.nonzero().squeeze(1)


def opened_targets(selection: Selection, targets: list[str] | None) -> list[Voters]:
    """The targets that voted, or for a selection without votes those that the user names.

    Args:
        selection: Names them.
        targets: What the user calls them; None asks the Selection.

    Raises:
        InputError: They are not to be found, or others.
    """
    voted: list[dict[str, Any] | None] = selection.config.get("targets", [])
    names: list[str] = targets or selection.metadata.get("targets", [])
    if not names:
        raise InputError("this selection does not name a target; give --target")
    if voted and len(names) != len(voted):
        raise InputError(f"targets that voted for this selection: {len(voted)}; --target names {len(names)}")
    found: list[Voters] = []
    begin = 0
    for name, settings in zip(names, voted or [None] * len(names), strict=True):
        try:
            opened = open_target(name, int(selection.metadata.get("target_seed", 0)))
        except InputError as error:
            raise error if targets else InputError(f"{error}; say with --target where it is now") from error
        if settings is not None and opened.train.fingerprint() != settings["digest"]:
            raise InputError(f"target {name}: not the images that voted")
        place = len(found)
        own_votes = selection.target_votes[place : place + 1]
        end = begin + (len(opened.train) if bool(own_votes.any()) or len(own_votes) == 0 else 0)
        votes, asked_by = selection.assignments[begin:end], selection.asked_by.long() - begin
        found.append(Voters(opened.name, opened.train, opened.test, votes, asked_by))
        begin = end
    if begin > len(selection.assignments):  # some votes were counted without a word on who cast them
        return [replace(one, assignments=selection.assignments[:0]) for one in found]
    return found
