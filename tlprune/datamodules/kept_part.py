"""The part of a source that a budget keeps, with its labels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tlprune.data.datasets import ImageSet
from tlprune.selection.ranking import Budget, require_training_images, warn_beyond_votes
from tlprune.selection.selection import Selection

__all__ = ["KeptPart", "kept_part"]


@dataclass(frozen=True)
class KeptPart:
    """Images to train and to validate on.

    Args:
        train: Training images.
        val: Validation images.
        units: Units kept, ascending, int64; classes where nothing is ranked.
        new_labels: New label of each class, ``[C]`` int64, -1 for a class that is not kept; None where labels stay.
    """

    train: ImageSet
    val: ImageSet
    units: Tensor
    new_labels: Tensor | None = None


def kept_part(
    split: tuple[ImageSet, Tensor, Tensor, ImageSet | None], selection: Selection | None, budget: Budget | None
) -> KeptPart:
    """Returns what a budget keeps of a source.

    Args:
        split: The source; its training and held-out images, ``[n]`` int64 each; its own validation images, or None.
        selection: Order of the source's units; None where nothing is ranked.
        budget: Amount to keep; None keeps all.

    Raises:
        InputError: No image is left to train on.
    """
    source, stay, held, own_val = split
    keep = torch.ones(len(source), dtype=torch.bool)
    new_labels = keep_classes = None
    units = torch.arange(len(source.classes) if selection is None else selection.num_units)
    if selection is not None and budget is not None:
        kept = selection.kept(budget)
        if len(selection.asked_by) == 0:
            warn_beyond_votes(selection.votes, len(kept.units))
        units = kept.units.sort().values
        keep = torch.zeros(len(source), dtype=torch.bool).index_fill_(0, kept.samples, True)
        if selection.unit_kind == "class":
            keep_classes = torch.zeros(len(source.classes), dtype=torch.bool).index_fill_(0, kept.units, True)
            new_labels = torch.where(keep_classes, keep_classes.cumsum(0) - 1, -1)
    if own_val is None:
        # single images are pruned to train on fewer, not to be examined on fewer
        by_sample = selection is not None and selection.unit_kind == "sample"
        val = source.subset(held if by_sample else held[keep[held]])
    else:
        val = own_val if keep_classes is None else own_val.subset(keep_classes[own_val.labels].nonzero().squeeze(1))
    train = source.subset(stay[keep[stay]])
    require_training_images(budget, len(units), int(keep.sum()), len(train))
    return KeptPart(train, val, units, new_labels)
