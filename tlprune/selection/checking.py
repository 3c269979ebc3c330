"""Checks that the fields of a Selection fit together."""

from typing import TYPE_CHECKING, Literal

import torch

from tlprune.errors import InputError

if TYPE_CHECKING:
    from tlprune.selection.selection import Selection

__all__ = ["UnitKind", "check_fields"]

UnitKind = Literal["class", "cluster", "sample"]
"""Kind of unit that is kept or dropped as a whole: a source class, a k-means cluster of features, or one image."""


def check_fields(selection: "Selection") -> None:
    """Refuses fields that do not fit together; their tensors have the right dtypes and numbers of dimensions.

    Raises:
        InputError: If a size does not fit, a unit is out of range, or votes, scores or centroids are not finite.
    """
    units = len(selection.ranking)
    if units == 0:
        raise InputError("a selection must rank at least one unit")
    if selection.unit_kind not in ("class", "cluster", "sample"):
        raise InputError(f"a selection cannot have units of the kind {selection.unit_kind!r}")
    if len(selection.unit_names) != (units if selection.unit_kind == "class" else 0):
        raise InputError(f"a selection of {units} {selection.unit_kind} units has {len(selection.unit_names)} names")
    if not torch.equal(selection.ranking.sort().values, torch.arange(units)):
        raise InputError(f"the ranking of a selection must name each of its {units} units once")
    shapes = [tuple(one.shape) for one in (selection.votes, selection.scores)]
    if shapes != [(units,)] * 2 or selection.target_votes.shape[1:] != (units,):
        raise InputError(f"a selection of {units} units has votes {tuple(selection.votes.shape)}")
    for votes in (selection.votes, selection.target_votes):
        if not (votes.sum(-1).isfinite().all() and (votes >= 0).all()):
            raise InputError("votes of a selection must be finite and not negative")
    asked_by = selection.asked_by
    if len(asked_by) not in (0, units):
        raise InputError(f"`asked_by` of a selection of {units} units has {len(asked_by)} entries")
    if len(asked_by) and not -1 <= int(asked_by.min()) <= int(asked_by.max()) < len(selection.assignments):
        raise InputError("`asked_by` of a selection must hold target images, or -1")
    if not selection.scores.isfinite().all():
        raise InputError("scores of a selection must be finite")
    for name in ("unit_of_sample", "assignments"):
        values = getattr(selection, name)
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < units:
            raise InputError(f"`{name}` of a selection must hold units in [0, {units})")
    if len(selection.centroids) not in (0, units):
        raise InputError(f"`centroids` of a selection of {units} units has {len(selection.centroids)} rows")
    if not selection.centroids.isfinite().all():
        raise InputError("centroids of a selection must be finite")
