"""Votes of target images: each votes for the unit the surrogate assigns it to. Exact on any number of ranks.

Batches come from :mod:`tlprune.selection.fixed_batches`, so a logit does not depend on the number of ranks, on the
number of workers, or on the training batch size. Each assignment is written at its image's index, and the buffers are
combined with MAX: an image that is processed twice cannot count twice, and a missing entry raises an error. Scores are
added in fixed point, since integer sums do not depend on the order of addition.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tlprune.distributed import raise_on_all_ranks, rank_and_world
from tlprune.errors import InputError
from tlprune.progress import show_progress
from tlprune.selection.fixed_batches import (
    Images,
    fixed_batches,
    named_samples,
    own_batches,
)
from tlprune.selection.forward import Precision, device_of, running

__all__ = ["FIXED_POINT", "Votes", "cast_votes", "class_weights", "count_votes"]

FIXED_POINT = 2.0**32
"""Inverse of the fixed-point unit in which scores are added."""


@dataclass(frozen=True)
class Votes:
    """Votes of ``M`` target images for ``U`` units.

    Args:
        units: Int64 tensor ``[M]``, the unit that each image votes for, in [0, U).
        scores: Float64 tensor ``[U]``, the surrogate's probability of each unit, summed over all images by weight.
    """

    units: Tensor
    scores: Tensor


def cast_votes(
    surrogate: nn.Module,
    images: Images,
    num_units: int,
    num_workers: int = 0,
    weights: Tensor | None = None,
    precision: Precision = "float32",
) -> Votes:
    """Assigns every image to the unit that the surrogate considers most likely.

    The surrogate runs as described in :mod:`tlprune.selection.forward`, on the device of its weights. Ties between
    units go to the lower index. Every rank of the default process group, if there is one, must call this; all get the
    same result.

    Args:
        surrogate: Network that maps ``[B, 3, H, W]`` to logits ``[B, U]``.
        images: Images that vote, under the evaluation transform.
        num_units: Number of units, ``U``.
        num_workers: Number of processes that load images on each rank.
        weights: Float64 tensor ``[M]``, the weight of each image; None gives each image the weight 1.
        precision: Precision of the surrogate.

    Returns:
        Assignments of all images.

    Raises:
        InputError: If there are no images, logits are not ``U`` wide, or some are not finite (the samples are named).
    """
    if len(images) == 0:
        raise InputError("the target has no training images, so nobody can vote")
    units, scores = raise_on_all_ranks(
        lambda: _own_ballots(surrogate, images, num_units, num_workers, weights, precision)
    )
    if rank_and_world()[1] > 1:
        dist.all_reduce(units, dist.ReduceOp.MAX)
        dist.all_reduce(scores, dist.ReduceOp.SUM)
    holes = (units < 0).nonzero().squeeze(1)
    if len(holes):
        raise RuntimeError(f"{len(holes)} target images did not vote, first {holes[:10].tolist()}")
    return Votes(units.cpu(), scores.cpu().double() / FIXED_POINT)


def _own_ballots(
    surrogate: nn.Module,
    images: Images,
    num_units: int,
    num_workers: int,
    weights: Tensor | None,
    precision: Precision,
) -> tuple[Tensor, Tensor]:
    """Returns units ``[M]`` of this rank's images, -1 for others, and their fixed-point scores ``[U]``."""
    device = device_of(surrogate)
    units = torch.full((len(images),), -1, dtype=torch.int64, device=device)
    scores = torch.zeros(num_units, dtype=torch.int64, device=device)
    batches = own_batches(len(images))
    with running(surrogate, precision) as run, show_progress("votes", sum(map(len, batches))) as advance:
        for indices, pixels, _ in fixed_batches(images, batches, num_workers, device):
            advance(len(indices))
            logits = run(pixels)[: len(indices)]
            if logits.shape[1] != num_units:
                raise InputError(f"the surrogate has {logits.shape[1]} outputs, the source has {num_units} units")
            bad = indices[~logits.isfinite().all(1).cpu()]
            if len(bad):
                raise InputError(f"the surrogate gives NaN or infinity for target images {named_samples(images, bad)}")
            units[indices.to(device)] = logits.argmax(1)
            probabilities = logits.double().softmax(1)
            if weights is not None:
                probabilities = probabilities * weights[indices].to(device)[:, None]
            scores += (probabilities * FIXED_POINT).round().long().sum(0)
    return units, scores


def count_votes(units: Tensor, num_units: int, weights: Tensor | None = None) -> Tensor:
    """Counts the votes for each unit.

    Args:
        units: Int64 tensor ``[M]``, in [0, U).
        num_units: Number of units, ``U``.
        weights: Float64 tensor ``[M]``, the weight of each vote; None gives each vote the weight 1.

    Returns:
        Float64 tensor ``[U]``; whole numbers without weights.

    Example:
        >>> count_votes(torch.tensor([2, 0, 2]), 4).tolist()
        [1.0, 0.0, 2.0, 0.0]
    """
    return torch.bincount(units, weights, num_units).double()


def class_weights(labels: Tensor) -> Tensor:
    """Computes weights with the same total for every class that occurs; all weights sum to the number of samples.

    Args:
        labels: Int64 tensor ``[M]``.

    Returns:
        Float64 tensor ``[M]``.

    Example:
        >>> class_weights(torch.tensor([0, 0, 0, 0, 2])).tolist()
        [0.625, 0.625, 0.625, 0.625, 2.5]
    """
    sizes = labels.bincount().double()
    return len(labels) / (int((sizes > 0).sum()) * sizes[labels])
