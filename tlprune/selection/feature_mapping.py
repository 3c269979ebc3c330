"""Feature Mapping: each target image votes for the source cluster whose centroid is nearest. Needs no labels.

Zhang et al., "Selectivity Drives Productivity", NeurIPS 2023 (arXiv 2310.08782), section 4.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tlprune.errors import InputError, require_within
from tlprune.selection.centroids import class_means, nearest, summed_distances
from tlprune.selection.distributed import broadcast_from_rank0
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
from tlprune.selection.selection import Selection, UnitKind
from tlprune.selection.selector import Selector, SourceImages, SurrogatePart, TargetImages
from tlprune.selection.votes import class_weights, count_votes

__all__ = ["FeatureMapping"]


class FeatureMapping(Selector):
    """Keeps the clusters of the source that most target images are nearest to, in the surrogate's feature space.

    The surrogate may be trained without labels: only its backbone is used. Units are ordered by votes, then by the
    distance of all target images to the unit's centroid, the smaller mean first, then by unit id.

    Args:
        units: ``clusters``: k-means clusters of the source's features; ``classes``: the source's classes, each with
            its mean feature for a centroid.
        num_clusters: ``K``, at least 1; None is the square root of the number of source images.
        balance: Whether each target class has the same weight, however many images it has.
        seed: Of k-means.
        num_workers: Processes that load images on each rank.
        center: Whether the target's features are moved so that their mean is the source's. A target whose images look
            alike beside the source's then votes by what tells them apart, and not as one for the clusters that the
            whole of it is nearest to. Not in the paper.
        precision: That the surrogate runs in: ``float32`` gives the same on every machine, ``bfloat16`` is faster on
            processors that have it.

    Raises:
        InputError: An argument is out of range.
    """

    method = "feature_mapping"
    label = "Feature Mapping"

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
        if num_clusters is not None and num_clusters < 1:
            raise InputError(f"`num_clusters` must be at least 1, got {num_clusters}")
        if num_clusters is not None and units == "classes":
            raise InputError("`num_clusters` goes with `units: clusters`; classes are as many as there are")
        require_within("num_workers", num_workers, 0)
        require_within("seed", seed, 0, 2**31 - 1)
        require_precision(precision)
        self.units = units
        self.num_clusters = num_clusters
        self.balance = balance
        self.seed = seed
        self.num_workers = num_workers
        self.center = center
        self.precision: Precision = precision

    @property
    def unit_kind(self) -> UnitKind:
        """Clusters, or classes."""
        return "cluster" if self.units == "clusters" else "class"

    @property
    def needs_surrogate(self) -> SurrogatePart | None:
        """Features alone."""
        return "backbone"

    @property
    def options(self) -> dict[str, Any]:
        """How units are made and votes counted, and the shape and precision that features are computed in."""
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
        """As in every selector; and there must be as many images as clusters, which is said before any is looked at."""
        super().check(source, targets)
        if self.num_clusters is not None and self.num_clusters > len(source.labels):
            raise InputError(f"`num_clusters` is {self.num_clusters}, the source has only {len(source.labels)} images")

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Features of the source, its units, features of the target, and the vote."""
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
        )

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """The source's features, and its clusters."""
        if surrogate is None:
            return ()
        features = self._features(surrogate, source, cache)
        if self.units == "classes":
            return (features.folder,)
        return features.folder, clusters_path(features, self._number_of_clusters(features), self.seed, cache)

    def unit_features(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> Tensor | None:
        """The centroids."""
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
    """The mean feature of a source, ``[D]``."""
    return class_means(features, torch.zeros(len(features), dtype=torch.int64), 1)[0]
