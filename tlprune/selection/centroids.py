"""Nearest centroids by Euclidean distance, as exact as if all differences were computed in float64."""

import torch
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.features import SourceFeatures

__all__ = ["class_means", "nearest", "summed_distances"]

_ROWS = 4096
"""Number of rows processed at a time, which bounds memory."""

_DISTANCES = 2**24
"""Number of distances computed at a time: 64 MB."""

_FEW = 512
"""Number of rows processed at a time if rounding could decide the result."""

_FIXED_POINT = 1e6


def nearest(points: Tensor, centroids: Tensor) -> Tensor:
    """Finds the nearest centroid of each point; ties go to the lowest index.

    Distances are compared in float32. If rounding could change the result, differences are computed in float64.

    Args:
        points: Float32 tensor ``[n, D]``.
        centroids: Float32 tensor ``[K, D]``.

    Returns:
        Int64 tensor ``[n]``.

    Example:
        >>> nearest(torch.tensor([[0.9], [0.5]]), torch.tensor([[0.0], [1.0]])).tolist()
        [1, 0]
    """
    if len(centroids) == 1:
        return torch.zeros(len(points), dtype=torch.int64)
    found = torch.empty(len(points), dtype=torch.int64)
    centre = centroids.mean(0)
    moved = centroids - centre
    lengths = moved.square().sum(1)
    longest = lengths.max().sqrt() + centre.norm()
    # The rounding error of a sum of D products is below this share of the squares in it
    share = 8 * points.shape[1] ** 0.5 * torch.finfo(torch.float32).eps
    rows = max(1, min(len(points), _ROWS, _DISTANCES // len(centroids)))
    moved_points, distances = torch.empty(rows, points.shape[1]), torch.empty(rows, len(centroids))  # allocated once
    for start in range(0, len(points), rows):
        some = points[start : start + rows]
        block = torch.sub(some, centre, out=moved_points[: len(some)])
        # Squared distances minus the point's own square, which does not affect comparisons
        apart = torch.addmm(lengths, block, moved.T, alpha=-2, out=distances[: len(some)])
        first, units = apart.min(1)
        found[start : start + len(some)] = units
        second = apart.scatter_(1, units[:, None], torch.inf).amin(1)
        own = block.norm(dim=1)
        bound = share * (own + longest).square()
        unsure = (second <= first + bound).nonzero().squeeze(1)
        for few in unsure.split(_FEW):
            within = first[few] + own[few].square() + bound[few]
            found[start + few] = _decided_exactly(points[start + few], centroids, within)
    return found


def _decided_exactly(points: Tensor, centroids: Tensor, within: Tensor) -> Tensor:
    """Finds the nearest centroid in float64, among those whose squared distance may be ``within``."""
    distances = torch.cdist(points.double(), centroids.double()).square_()
    rows, candidates = (distances <= within.double()[:, None]).nonzero(as_tuple=True)
    exact = torch.full(distances.shape, torch.inf, dtype=torch.float64)
    exact[rows, candidates] = (points[rows].double() - centroids[candidates].double()).square().sum(1)
    return exact.argmin(1)


def summed_distances(points: Tensor, centroids: Tensor, weights: Tensor) -> Tensor:
    """Computes Euclidean distances to each centroid, summed over all points.

    Args:
        points: Float32 tensor ``[n, D]``.
        centroids: Float32 tensor ``[K, D]``.
        weights: Float64 tensor ``[n]``, the weight of each point.

    Returns:
        Float64 tensor ``[K]``. Distances are computed in float64 and added as multiples of a millionth, so centroids
        at the same distances have the same sum regardless of the order of the points.

    Example:
        >>> points, centroids = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [3.0]])
        >>> summed_distances(points, centroids, torch.ones(2, dtype=torch.float64)).tolist()
        [3.0, 3.0]
    """
    total = torch.zeros(len(centroids), dtype=torch.int64)
    wide = centroids.double()
    squares = wide.square().sum(1)
    for start in range(0, len(points), _ROWS):
        block = points[start : start + _ROWS].double()
        found = torch.addmm(squares, block, wide.T, alpha=-2).add_(block.square().sum(1, keepdim=True))
        weighted = found.clamp_(min=0).sqrt_().mul_(weights[start : start + _ROWS, None] * _FIXED_POINT)
        total += weighted.round_().sum(0).long()
    return total.double() / _FIXED_POINT


def class_means(features: SourceFeatures, labels: Tensor, num_classes: int) -> Tensor:
    """Computes the mean feature of each class.

    Args:
        features: Features of the source.
        labels: Int64 tensor ``[N]``.
        num_classes: Number of classes, ``C``.

    Returns:
        Float32 tensor ``[C, D]``, summed in float64.

    Raises:
        InputError: If a class has no images.
    """
    sizes = labels.bincount(minlength=num_classes)
    if bool((sizes == 0).any()):
        raise InputError(f"class {int((sizes == 0).nonzero()[0])} of the source has no images, so no mean feature")
    sums: Tensor | None = None
    for images, shard in features:
        if sums is None:
            sums = torch.zeros(num_classes, shard.shape[1], dtype=torch.float64)
        sums.index_add_(0, labels[images.start : images.stop], shard.double())
    if sums is None:
        raise InputError("the source has no images")
    return (sums / sizes[:, None]).float()
