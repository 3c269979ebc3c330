"""Splits a labelled set with the same class proportions in both parts."""

from warnings import warn

import torch
from torch import Tensor

from tlprune.errors import InputError

__all__ = ["stratified_holdout"]


def stratified_holdout(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out ``count`` samples, from each class in proportion to its size.

    Shares are rounded by largest remainder, with ties to the lower class, so that exactly ``count`` samples are held
    out. A class always keeps at least one sample: if its share is all of its samples, classes with more samples replace
    it. If every class is down to one sample, fewer than ``count`` samples are held out, with a warning.

    Args:
        labels: Labels, ``[N]`` int64.
        count: Number of samples to hold out, in [0, N].
        seed: Seed of the choice of samples within a class.

    Returns:
        Indices that stay and indices held out, each ascending, int64. At least one sample of each class stays.

    Raises:
        InputError: ``count`` is out of range.

    Example:
        >>> stay, held = stratified_holdout(torch.tensor([0, 0, 0, 0, 1, 1]), 3, seed=0)
        >>> torch.tensor([0, 0, 0, 0, 1, 1])[held].bincount().tolist()
        [2, 1]
    """
    if not 0 <= count <= len(labels):
        raise InputError(f"cannot hold out {count} of {len(labels)} samples")
    generator = torch.Generator().manual_seed(seed)
    sizes = labels.bincount()
    take = _shares(sizes, count)
    if int(take.sum()) < count:
        classes = f"each of {int((sizes > 0).sum()):,} classes keeps one of {len(labels):,} samples"
        warn(f"{int(take.sum()):,} samples are held out, not {count:,}: {classes}", stacklevel=2)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(take.tolist()):
        members = (labels == label).nonzero().squeeze(1)
        held[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)


def _shares(sizes: Tensor, count: int) -> Tensor:
    """Computes the number of held-out samples of each class, ``[C]`` int64, at most all but one."""
    most = (sizes - 1).clamp(min=0)
    take = _in_proportion(sizes, count).minimum(most)
    room = most - take
    return take + _in_proportion(room, min(count - int(take.sum()), int(room.sum())))


def _in_proportion(sizes: Tensor, count: int) -> Tensor:
    """Divides ``count``, at most the sum of ``sizes``, in proportion to ``sizes``, rounded by largest remainder."""
    share = sizes.double() * count / max(int(sizes.sum()), 1)
    parts = share.floor().long()
    missing = count - int(parts.sum())
    parts[(share - parts).sort(descending=True, stable=True).indices[:missing]] += 1
    return parts
