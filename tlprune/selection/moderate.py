"""Moderate: keeps images that are neither typical nor atypical, by distance to their centre in feature space.

Xia et al., "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning", ICLR
2023. The method is designed for a single dataset and ignores the target, so it serves as a control here.
"""

import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection.baselines import SourceOnlySelector
from tlprune.selection.centroids import class_means
from tlprune.selection.features import SourceFeatures
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import FORWARD
from tlprune.selection.selection import Selection
from tlprune.selection.selector import SourceImages, TargetImages

__all__ = ["Moderate", "interleaved_by_class"]


class Moderate(SourceOnlySelector):
    """Keeps the images whose distance to their class's mean feature is nearest to the median of these distances.

    Every class loses the same share of its images, as in the paper. With ``unit: class`` the same rule applies to the
    classes' mean features and their distances to the overall mean.

    Args:
        unit: ``sample`` or ``class``.
        num_workers: Number of processes that load images on each rank.

    Raises:
        InputError: If ``unit`` is neither.
    """

    method = "moderate"
    label = "Moderate"
    needs = ("labels", "backbone")

    def __init__(self, unit: Literal["class", "sample"] = "sample", num_workers: int = 0) -> None:
        super().__init__(unit)
        require_within("num_workers", num_workers, 0)
        self.num_workers = num_workers

    @property
    def options(self) -> dict[str, Any]:
        """Kind of unit that is ranked, and the batches that features are computed in."""
        how = {"batch_size": BATCH_SIZE, "precision": "float32, kept as float16", "forward": FORWARD}
        return {**super().options, **how}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Computes distances to centres and ranks by their distance from the median.

        Raises:
            InputError: If a class has no images.
        """
        if surrogate is None:
            raise InputError("Moderate needs a surrogate")
        begin = time.perf_counter()
        features = SourceFeatures(surrogate, source, cache, self.num_workers)
        features.extract()

        def rank() -> Selection:
            means = class_means(features, source.labels, len(source.classes))
            if self.unit == "class":
                moderateness = _from_median((means - means.mean(0)).double().norm(dim=1))
                ranking = moderateness.sort(stable=True).indices
            else:
                labels = source.labels
                distance = torch.empty(len(labels), dtype=torch.float64)
                for images, shard in features:
                    here = slice(images.start, images.stop)
                    distance[here] = (shard.double() - means[labels[here]].double()).norm(dim=1)
                moderateness = torch.empty_like(distance)
                for label in range(len(source.classes)):
                    members = labels == label
                    moderateness[members] = _from_median(distance[members])
                ranking = interleaved_by_class(moderateness, labels)
            return self._ordered(source, ranking, -moderateness, time.perf_counter() - begin)

        return broadcast_from_rank0(rank)

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """Returns the paths of the source's features."""
        return () if surrogate is None else (SourceFeatures(surrogate, source, cache).folder,)


def _from_median(distance: Tensor) -> Tensor:
    return (distance - distance.quantile(0.5)).abs()


def interleaved_by_class(cost: Tensor, labels: Tensor) -> Tensor:
    """Ranks samples so that every prefix holds about the same share of each class, lowest cost first.

    Args:
        cost: Tensor ``[N]``; lower is better.
        labels: Int64 tensor ``[N]``.

    Returns:
        Int64 tensor ``[N]``, a permutation; ties go to the lower index.

    Example:
        >>> interleaved_by_class(torch.tensor([3.0, 1.0, 2.0, 5.0]), torch.tensor([0, 0, 0, 1])).tolist()
        [1, 2, 3, 0]
    """
    by_cost = cost.sort(stable=True).indices
    grouped = by_cost[labels[by_cost].sort(stable=True).indices]
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    own = labels[grouped]
    place = torch.arange(len(labels)) - starts[own]
    share = torch.empty(len(labels), dtype=torch.float64)
    share[grouped] = (place.double() + 0.5) / sizes[own]
    return share.sort(stable=True).indices
