"""What selectors of single images share: features as directions, and centroids of directions."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from tlprune.errors import InputError
from tlprune.selection.features import SourceFeatures

__all__ = ["Center", "Directions", "normalized", "spherical_centroids"]

Center = Literal["source", "each", "none"]
"""What is subtracted from features before they become directions."""

_ITERATIONS = 20

_SHORTEST = 1e-12
"""Length of rows that are taken for zeros."""

_ROWS = 512
"""Rows of a block, so that a block stays in the processor's cache."""


class Directions:
    """Features of a source as vectors of length 1, shard by shard.

    Args:
        features: Of the source.
        center: What is subtracted first: the source's mean from all, each set's mean from itself, or nothing.
    """

    def __init__(self, features: SourceFeatures, center: Center) -> None:
        self.features = features
        self.center = center
        self.mean = None if center == "none" else _mean(features)

    def __iter__(self) -> Iterator[tuple[range, Tensor]]:
        """Each shard's images and their directions ``[n, D]`` float64, in order."""
        for images, shard in self.features:
            yield images, self._of(shard.double())

    def among(self, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Directions of some images.

        Args:
            wanted: ``[N]`` bool.

        Yields:
            Ids ``[n]`` int64, ascending, and directions ``[n, D]`` float64: few at a time, so that they stay in the
            processor's cache. The next block overwrites the directions.
        """
        buffer: Tensor | None = None
        for ids, rows in self.features.among(wanted):
            if buffer is None:
                buffer = torch.empty(_ROWS, rows.shape[1], dtype=torch.float64)
            for some, block in zip(torch.split(ids, _ROWS), torch.split(rows, _ROWS), strict=True):
                yield some, self._of(buffer[: len(block)].copy_(block))

    def _of(self, rows: Tensor) -> Tensor:
        """Directions of float64 rows, in their place."""
        if self.mean is not None:
            rows.sub_(self.mean)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_(min=_SHORTEST))

    def of_target(self, wanted: Tensor) -> Tensor:
        """Directions of a target's features.

        Args:
            wanted: ``[M, D]`` features.

        Returns:
            ``[M, D]`` float64.

        Raises:
            InputError: They have another width than the source's.
        """
        rows = wanted.double()
        if self.mean is not None and len(self.mean) != rows.shape[1]:
            raise InputError(f"features of the target are {rows.shape[1]} wide, those of the source {len(self.mean)}")
        if self.mean is not None:
            rows = rows - (self.mean if self.center == "source" else rows.mean(0))
        return normalized(rows)


def normalized(rows: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays as it is. ``[n, D]`` float64."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / length.clamp(min=_SHORTEST)


def spherical_centroids(rows: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Spherical k-means: groups of directions, and the mean direction of each.

    Args:
        rows: ``[M, D]`` float64 of length 1.
        count: ``k``, from 1 to ``M``.
        seed: Decides the first centroids.

    Returns:
        Centroids ``[k', D]`` float64 of length 1, and the centroid of each row, ``[M]`` int64. Those without rows are
        left out, so ``k'`` may be less than ``k``.
    """
    import faiss

    kmeans = faiss.Kmeans(rows.shape[1], count, niter=_ITERATIONS, seed=seed, spherical=True, min_points_per_centroid=1)
    kmeans.cp.max_points_per_centroid = len(rows)
    kmeans.train(rows.float().numpy())
    nearest = (rows @ torch.from_numpy(kmeans.centroids).double().T).argmax(1)
    used, group = torch.unique(nearest, return_inverse=True)
    sums = torch.zeros(len(used), rows.shape[1], dtype=torch.float64).index_add_(0, group, rows)
    return normalized(sums), group


def _mean(features: SourceFeatures) -> Tensor:
    total: Tensor | None = None
    for _, shard in features.among(torch.ones(len(features), dtype=torch.bool)):
        for rows in torch.split(shard, _ROWS):
            part = rows.double().sum(0)
            total = part if total is None else total.add_(part)
    if total is None:
        raise InputError("the source has no images")
    return (total / len(features)).float().double()
