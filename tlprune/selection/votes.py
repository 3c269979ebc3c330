"""One ballot per target image: the unit that the surrogate gives it to. Exact on any number of ranks.

Batches are those of :mod:`tlprune.selection.fixed_batches`, so a logit does not depend on the number of ranks, on
workers, or on the batch size that the user trains with. Each ballot is written at its image's index and the buffers are
combined with MAX: an image that is seen twice cannot count twice, and a hole is an error. Scores are added in fixed
point, since integer sums do not depend on their order.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tlprune.distributed import raise_on_all_ranks, rank_and_world
from tlprune.errors import InputError
from tlprune.selection.fixed_batches import (
    Images,
    fixed_batches,
    named_samples,
    own_batches,
)
from tlprune.selection.forward import Precision, device_of, running

__all__ = ["FIXED_POINT", "Votes", "cast_votes", "class_weights", "count_votes"]

FIXED_POINT = 2.0**32
"""Scores are added as multiples of its inverse."""


@dataclass(frozen=True)
class Votes:
    """What ``M`` target images say of ``U`` units.

    Args:
        units: ``[M]`` int64, the unit that each image votes for, in [0, U).
        scores: ``[U]`` float64, the surrogate's probability of each unit, summed over all images, each as it weighs.
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
    """Lets every image vote for the unit that the surrogate thinks most likely.

    The surrogate runs as :mod:`tlprune.selection.forward` says, on the device where its weights are. Ties between
    units go to the lower one. Every rank of the default process group, if there is one, must call this; all get the
    same result.

    Args:
        surrogate: Maps ``[B, 3, H, W]`` to logits ``[B, U]``.
        images: The voters, in the evaluation view.
        num_units: ``U``.
        num_workers: Processes that load images on each rank.
        weights: ``[M]`` float64, how much each image counts; None counts each as 1.
        precision: That the surrogate runs in.

    Returns:
        The assignments of all images.

    Raises:
        InputError: There are no images, logits are not ``U`` wide, or some are not finite (samples are named).
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
    """Units ``[M]`` of the images that this rank looks at, -1 for others, and their scores ``[U]`` in fixed point."""
    device = device_of(surrogate)
    units = torch.full((len(images),), -1, dtype=torch.int64, device=device)
    scores = torch.zeros(num_units, dtype=torch.int64, device=device)
    with running(surrogate, precision) as run:
        for indices, pixels, _ in fixed_batches(images, own_batches(len(images)), num_workers, device):
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
    """Votes for each unit.

    Args:
        units: ``[M]`` int64 in [0, U).
        num_units: ``U``.
        weights: ``[M]`` float64, how much each ballot counts; None counts each as 1.

    Returns:
        ``[U]`` float64, whole numbers where assignments have no weights.

    Example:
        >>> count_votes(torch.tensor([2, 0, 2]), 4).tolist()
        [1.0, 0.0, 2.0, 0.0]
    """
    return torch.bincount(units, weights, num_units).double()


def class_weights(labels: Tensor) -> Tensor:
    """Weights that give every class that occurs the same total, and all samples together their number.

    Args:
        labels: ``[M]`` int64.

    Returns:
        ``[M]`` float64.

    Example:
        >>> class_weights(torch.tensor([0, 0, 0, 0, 2])).tolist()
        [0.625, 0.625, 0.625, 0.625, 2.5]
    """
    sizes = labels.bincount().double()
    return len(labels) / (int((sizes > 0).sum()) * sizes[labels])
