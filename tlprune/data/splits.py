"""Splitting a labelled set so that every class keeps its share."""

import torch
from torch import Tensor

from tlprune.errors import InputError

__all__ = ["stratified_holdout"]


def stratified_holdout(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out ``count`` samples, each class in proportion to its size.

    Shares are rounded by largest remainder, ties going to the lower class, so exactly ``count`` are held out.

    Args:
        labels: ``[N]`` int64.
        count: In [0, N].
        seed: Decides which samples of a class are held out.

    Returns:
        Indices that stay and indices held out, each ascending, int64.

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
    share = sizes.double() * count / max(len(labels), 1)
    take = share.floor().long()
    missing = count - int(take.sum())
    take[(share - take).sort(descending=True, stable=True).indices[:missing]] += 1
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(take.tolist()):
        members = (labels == label).nonzero().squeeze(1)
        held[members[torch.randperm(len(members), generator=generator)[:number]]] = True
    return (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)
