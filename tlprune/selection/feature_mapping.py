"""Feature Mapping: each target image votes for the source cluster with the nearest centroid. Needs no labels.

Zhang et al., "Selectivity Drives Productivity", NeurIPS 2023 (arXiv 2310.08782), section 4.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection.centroids import class_means, nearest, summed_distances
from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import FORWARD, Precision, require_precision
from tlprune.selection.kmeans import (
    ITERATIONS,
    POINTS_PER_CENTROID,
    SEEDING,
    Clusters,
    cached_clusters,
    clusters_path,
    suggested_clusters,
)
from tlprune.selection.ranking import rank_units
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Need, Selector, SourceImages, TargetImages
from tlprune.selection.votes import class_weights, count_votes

__all__ = ["FeatureMapping"]


class FeatureMapping(Selector):
    """Keeps the source clusters that are nearest to most target images in the surrogate's feature space.

    The surrogate may be trained without labels, since only its backbone is used. Units are ranked by votes, then by the
    mean distance of all target images to the unit's centroid (ascending), then by unit id.

    Args:
        units: ``clusters`` for k-means clusters of the source's features; ``classes`` for the source's classes, whose
            centroids are their mean features.
        num_clusters: Number of clusters ``K``, at least 1; None for the square root of the number of source images.
        balance: Whether every target class has the same total weight, regardless of its number of images.
        seed: Seed of k-means.
        num_workers: Number of processes that load images on each rank.
        center: Whether the target's features are shifted so that their mean equals the source's. If the target's images
            look alike compared with the source's, they then vote by their differences from each other, instead of all
            voting for the clusters nearest to the target as a whole. Not in the paper.
        precision: Precision of the surrogate: ``float32`` gives the same result on every machine; ``bfloat16`` is
            faster on processors that support it.

    Raises:
        InputError: If an argument is out of range.
    """

    method = "feature_mapping"
    label = "Feature Mapping"
    score_label = "mean distance"
    scores_are_negative = True
    needs: tuple[Need, ...] = ("target", "backbone")

    def __init__(
        self,
        units: Literal["clusters", "classes"] = "clusters",
        num_clusters: int | None = None,
        balance: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        center: bool = False,
        precision: Precision = "float32",
    ) -> None:
        if units not in ("clusters", "classes"):
            raise InputError(f"`units` must be 'clusters' or 'classes', got {units!r}")
        if num_clusters is not None:
            require_within("num_clusters", num_clusters, 1)
        if num_clusters is not None and units == "classes":
            raise InputError("`num_clusters` goes with `units: clusters`; classes are as many as there are")
        require_within("num_workers", num_workers, 0)
        require_within("seed", seed, 0, 2**31 - 1)
        require_precision(precision)
        self.units = units
        self.unit_kind = "cluster" if units == "clusters" else "class"
        self.num_clusters = num_clusters
        self.balance = balance
        if balance:
            self.needs = (*self.needs, "target_labels")
        self.seed = seed
        self.num_workers = num_workers
        self.center = center
        self.precision: Precision = precision

    @property
    def options(self) -> dict[str, Any]:
        """Settings of units and votes, and the batch shape and precision of the features."""
        clusters = {
            "num_clusters": self.num_clusters or "sqrt",
            "seed": self.seed,
            "seeding": SEEDING,
            "iterations": ITERATIONS,
            "points_per_centroid": POINTS_PER_CENTROID,
        }
        return {
            "units": self.units,
            **(clusters if self.units == "clusters" else {}),
            "balance": self.balance,
            **({"center": True} if self.center else {}),
            "batch_size": BATCH_SIZE,
            "precision": f"{self.precision}, kept as float16",
            "forward": FORWARD,
        }

    def check(self, source: SourceImages, targets: Sequence[TargetImages]) -> None:
        """Extends the base check: rejects a source with fewer images than clusters before any image is read."""
        super().check(source, targets)
        if self.num_clusters is not None and self.num_clusters > len(source.labels):
            raise InputError(f"`num_clusters` is {self.num_clusters}, the source has only {len(source.labels)} images")

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Computes source features, units and target features, and counts the votes."""
        if target is None or surrogate is None:
            raise InputError("FeatureMapping needs a target and a surrogate")
        begin = time.perf_counter()
        features = self._features(surrogate, source, cache)
        features.extract()
        extracted = time.perf_counter()
        voters = extract_features(surrogate, target, self.num_workers, self.precision)
        looked = time.perf_counter()
        seconds = {"source features": extracted - begin, "target features": looked - extracted}
        return broadcast_from_rank0(lambda: self._vote(source, target.labels, features, voters, seconds, cache))

    def _vote(
        self,
        source: SourceImages,
        labels: Tensor,
        features: SourceFeatures,
        voters: Tensor,
        seconds: dict[str, float],
        cache: Path,
    ) -> Selection:
        begin = time.perf_counter()
        units = self._units(source, features, cache)
        clustered = time.perf_counter()
        if self.center:
            voters = voters + _mean(features) - voters.double().mean(0).float()
        weights = class_weights(labels) if self.balance else torch.ones(len(labels), dtype=torch.float64)
        assignments = nearest(voters, units.centroids)
        scores = -summed_distances(voters, units.centroids, weights)
        votes = count_votes(assignments, len(units.centroids), weights if self.balance else None)
        ranking = rank_units(votes, scores)
        seconds |= {"units": clustered - begin, "vote": time.perf_counter() - clustered}
        return Selection(
            method=self.method,
            unit_names=tuple(source.classes) if self.units == "classes" else (),
            ranking=ranking,
            votes=votes,
            scores=scores,
            unit_of_sample=units.unit_of_sample,
            assignments=assignments,
            metadata={"seconds": seconds},
            unit_kind=self.unit_kind,
            centroids=units.centroids,
        )

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """Returns the paths of the source's features and clusters."""
        if surrogate is None:
            return ()
        features = self._features(surrogate, source, cache)
        if self.units == "classes":
            return (features.folder,)
        return features.folder, clusters_path(features, self._number_of_clusters(features), self.seed, cache)

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """Returns the centroids."""
        if surrogate is None:
            return None
        features = self._features(surrogate, source, cache)
        known = not features.missing and all(path.exists() for path in self.cached_paths(source, surrogate, cache))
        return self._units(source, features, cache).centroids if known else None

    def _features(self, surrogate: nn.Module, source: SourceImages, cache: Path) -> SourceFeatures:
        return SourceFeatures(surrogate, source, cache, self.num_workers, self.precision)

    def _units(self, source: SourceImages, features: SourceFeatures, cache: Path) -> Clusters:
        if self.units == "classes":
            means = class_means(features, source.labels, len(source.classes))
            return Clusters(means, source.labels.int())
        return cached_clusters(features, self._number_of_clusters(features), self.seed, cache)

    def _number_of_clusters(self, features: SourceFeatures) -> int:
        return self.num_clusters or suggested_clusters(len(features))


def _mean(features: SourceFeatures) -> Tensor:
    """Computes the mean feature of a source, ``[D]``."""
    return class_means(features, torch.zeros(len(features), dtype=torch.int64), 1)[0]
