"""Source and targets of a Selection, reopened and checked against their digests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.data.feature_files import open_features
from tlprune.data.feature_names import is_features
from tlprune.data.feature_set import FeatureSet
from tlprune.data.target_splits import open_target
from tlprune.errors import InputError
from tlprune.selection.selection import Selection

__all__ = ["Voters", "find_unit", "opened_source", "opened_targets", "unit_names"]


def opened_source(selection: Selection, source: str | None, cache: str | None) -> ImageSet:
    """Opens the source that a Selection was made for.

    Args:
        selection: Selection that names the source.
        source: Location given by the user; None to use the location in the Selection.
        cache: Cache folder.

    Raises:
        InputError: If the source is not found, has changed, or only its class names were known.
    """
    selection.require_images()
    name = source or selection.metadata.get("source")
    if name is None:
        raise InputError("this selection does not say where its source lies; give --source")
    # these load torchvision, which opening targets does not need
    from tlprune.data.sources import open_source
    from tlprune.diagnosing import without_skipped
    from tlprune.pruning import require_source

    images, _ = open_source(name, cache)
    images = without_skipped(images, selection)
    require_source(selection, images, f"source {name}")
    return images


def unit_names(selection: Selection, source: str | None, cache: str | None) -> Callable[[int], str]:
    """Returns the function that names units: of single images by the source's paths, if the source is given.

    Args:
        selection: Selection whose units are named.
        source: Location of its source given by the user; None to name single images by their numbers.
        cache: Cache folder.

    Raises:
        InputError: If the source is not found, or has changed.
    """
    if source is None or not selection.sizes_known:
        return selection.name
    images = opened_source(selection, source, cache)  # checked in any case: it would be believed to be the right one
    if selection.unit_kind != "sample":
        return selection.name
    image_of_unit = selection.unit_of_sample.argsort()
    return lambda unit: images.name(int(image_of_unit[unit]))


def find_unit(selection: Selection, name: str, source: str | None, cache: str | None) -> int:
    """Returns the unit of a name that the user typed; single images have their paths too if the source is given.

    Args:
        selection: Selection that ranks the unit.
        name: Name or number of the unit.
        source: Location of its source given by the user.
        cache: Cache folder.

    Raises:
        InputError: There is no such unit, or the source is not found, or has changed.
    """
    if source is None or selection.unit_kind != "sample" or name.removeprefix("sample").strip().isdecimal():
        return selection.unit(name)
    names = unit_names(selection, source, cache)
    found = next((unit for unit in range(selection.num_units) if names(unit) == name), None)
    if found is None:
        numbered = f"images are named as `show --source` names them, or numbered 0 to {selection.num_units - 1}"
        raise InputError(f"no image {name!r} in source {source}: {numbered}")
    return found


@dataclass(frozen=True)
class Voters:
    """Training images of one target, checked to be those that voted.

    Args:
        name: Name of the target.
        images: Images that voted.
        val: Validation images of the target, which did not vote.
        test: Test images of the target, which did not vote; None if it has none.
        assignments: Int64 tensor ``[M]``, the unit that each image voted for; empty without votes.
        asked_by: Int64 tensor ``[U]``, the image each unit is kept for, outside [0, M) for other targets, or empty.
    """

    name: str
    images: ImageSet
    val: ImageSet | None
    test: ImageSet | None
    assignments: Tensor
    asked_by: Tensor

    @property
    def compared(self) -> tuple[tuple[str, ImageSet | None], ...]:
        """Parts that must not be in the kept source, by name; those of a set without labels and parts are all images.

        Raises:
            InputError: The target has no test images, although it has labels or is given as features.
        """
        if self.test is not None:
            return ("test", self.test), ("val", self.val)
        if self.images.classes or isinstance(self.images, FeatureSet):
            raise InputError(f"target {self.name} has no test images to audit")
        return (("own", self.images),)

    def of_unit(self, unit: int) -> Tensor:
        """Returns the images that voted for a unit or that it is kept for: int64 ``[m]``, ascending."""
        voted = self.assignments == unit
        if len(self.asked_by) and 0 <= (asking := int(self.asked_by[unit])) < len(voted):
            voted[asking] = True
        return voted.nonzero().squeeze(1)


def opened_targets(selection: Selection, targets: list[str] | None) -> list[Voters]:
    """Opens the targets that voted, or the targets named by the user for a selection without votes.

    Args:
        selection: Selection that names the targets.
        targets: Targets named by the user; None to use those in the Selection.

    Raises:
        InputError: If the targets are not found, or have changed.
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
            if is_features(name):
                parts: tuple[str, ImageSet, ImageSet | None, ImageSet | None] = (name, open_features(name), None, None)
            else:
                opened = open_target(name, int(selection.metadata.get("target_seed", 0)))
                parts = (opened.name, opened.train, opened.val, opened.test)
        except InputError as error:
            raise error if targets else InputError(f"{error}; say with --target where it is now") from error
        called, train, val, test = parts
        if settings is not None and train.fingerprint() != settings["digest"]:
            raise InputError(f"target {name}: not the images that voted")
        place = len(found)
        own_votes = selection.target_votes[place : place + 1]
        end = begin + (len(train) if bool(own_votes.any()) or len(own_votes) == 0 else 0)
        votes, asked_by = selection.assignments[begin:end], selection.asked_by.long() - begin
        found.append(Voters(called, train, val, test, votes, asked_by))
        begin = end
    if begin > len(selection.assignments):  # some votes were counted without recording who cast them
        return [replace(one, assignments=selection.assignments[:0]) for one in found]
    return found
