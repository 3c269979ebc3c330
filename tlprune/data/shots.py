"""Few labels: the same number of labelled images of each class."""

from typing import Literal

import torch
from torch import Tensor

from tlprune.errors import InputError, require_within

__all__ = ["ALL_SHOTS", "Shots", "few_of_each_class", "read_shots"]

ALL_SHOTS: Literal["all"] = "all"
"""Value of ``shots`` that uses all labelled images."""

Shots = int | Literal["all"]
"""Number of labelled images of each class, at least 1, or ``all``."""


def read_shots(shots: object) -> int | None:
    """Checks a number of labelled images per class.

    Args:
        shots: Number of at least 1, or ``all``.

    Returns:
        The number; None for all.

    Raises:
        InputError: The value is neither.
    """
    if shots == ALL_SHOTS:
        return None
    if isinstance(shots, bool) or not isinstance(shots, int):
        raise InputError(f"`shots` must be a whole number or {ALL_SHOTS!r}, got {shots!r}")
    require_within("shots", shots, 1)
    return shots


def few_of_each_class(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Draws the same number of images of each class. A class with fewer images gives all of them.

    Args:
        labels: Int64 tensor ``[n]``.
        shots: Images per class.
        seed: Seed of the draw.

    Returns:
        Int64 tensor of image indices, ascending. More shots with the same seed add images and remove none.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = order[labels[order].argsort(stable=True)]
    sizes = labels.bincount()
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return by_class[rank < shots].sort().values
