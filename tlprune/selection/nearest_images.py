"""Nearest Images: target images take turns, and each takes the source image that is most similar to it.

The idea is that of SimCore (Kim et al., "Coreset Sampling from Open-Set for Fine-Grained Self-Supervised Learning",
CVPR 2023) and of selective joint fine-tuning (Ge and Yu, CVPR 2017). It needs no label of the source.
"""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tlprune.distributed import broadcast_from_rank0
from tlprune.errors import InputError, require_within
from tlprune.selection.directions import Center, Directions, spherical_centroids
from tlprune.selection.features import SourceFeatures, extract_features
from tlprune.selection.fixed_batches import BATCH_SIZE
from tlprune.selection.forward import FORWARD, Precision, require_precision
from tlprune.selection.rounds import Rounds, order_in_rounds
from tlprune.selection.selection import Selection
from tlprune.selection.selector import Selector, SourceImages, TargetImages

__all__ = ["NearestImages", "suggested_images"]

_REFERENCE_ROUND = 20
_SHARE_OF_SIMILARITY = 0.95


class NearestImages(Selector):
    """Keeps single source images that are most similar to target images, the same number for each target image.

    In every round each anchor takes the source image that is most similar to it and not taken yet; where two anchors
    want the same image, the more similar one takes it. Images are ordered by round, then by similarity, then by id.
    Similarity is the cosine of surrogate features.

    Args:
        num_anchors: Spherical k-means centroids of the target's features that serve as anchors, from 1 to the number of
            target images; None makes each target image an anchor.
        center: What is subtracted from features first. ``source``: the source's mean, from all; ``each``: the source's
            mean from the source and the target's from the target, so that a target whose images look alike beside the
            source's is matched by what tells them apart; ``none``: nothing.
        seed: Of k-means.
        num_workers: Processes that load images on each rank.
        precision: That the surrogate runs in: ``float32`` gives the same on every machine, ``bfloat16`` is faster on
            processors that have it.

    Raises:
        InputError: An argument is out of range.
    """

    method = "nearest_images"
    label = "nearest images"
    score_label = "similarity"
    unit_kind = "sample"
    needs = ("target", "backbone")

    def __init__(
        self,
        num_anchors: int | None = None,
        center: Center = "source",
        seed: int = 0,
        num_workers: int = 0,
        precision: Precision = "float32",
    ) -> None:
        if num_anchors is not None:
            require_within("num_anchors", num_anchors, 1)
        require_within("seed", seed, 0, 2**31 - 1)
        require_within("num_workers", num_workers, 0)
        require_precision(precision)
        if center not in ("source", "each", "none"):
            raise InputError(f"`center` must be 'source', 'each' or 'none', got {center!r}")
        self.num_anchors = num_anchors
        self.center: Center = center
        self.seed = seed
        self.num_workers = num_workers
        self.precision: Precision = precision

    @property
    def options(self) -> dict[str, Any]:
        """The anchors, and the shape and precision that features are computed in."""
        anchors = {} if self.num_anchors is None else {"num_anchors": self.num_anchors, "seed": self.seed}
        computed = {"batch_size": BATCH_SIZE, "precision": f"{self.precision}, kept as float16", "forward": FORWARD}
        return {**anchors, "center": self.center, **computed}

    def order(
        self, source: SourceImages, target: TargetImages | None, surrogate: nn.Module | None, cache: Path
    ) -> Selection:
        """Features of the source and of the target, and rounds in which anchors take images.

        Raises:
            InputError: There are more anchors than target images.
        """
        if target is None or surrogate is None:
            raise InputError("NearestImages needs a target and a surrogate")
        voters = len(target.labels)
        if self.num_anchors is not None and self.num_anchors > voters:
            raise InputError(f"`num_anchors` is {self.num_anchors}, the target has only {voters} training images")
        begin = time.perf_counter()
        features = SourceFeatures(surrogate, source, cache, self.num_workers, self.precision)
        features.extract()
        extracted = time.perf_counter()
        wanted = extract_features(surrogate, target, self.num_workers, self.precision)
        seconds = {"source features": extracted - begin, "target features": time.perf_counter() - extracted}
        return broadcast_from_rank0(lambda: self._take(features, wanted, seconds))

    def _take(self, features: SourceFeatures, wanted: Tensor, seconds: dict[str, float]) -> Selection:
        begin = time.perf_counter()
        directions = Directions(features, self.center)
        own = directions.of_target(wanted)
        anchor_of_image = torch.arange(len(own))
        anchors = own
        if self.num_anchors is not None:
            anchors, anchor_of_image = spherical_centroids(own, self.num_anchors, self.seed)
        found = order_in_rounds(anchors, directions, len(features))
        first = found.first_taken(len(anchors))[anchor_of_image]
        sizes = anchor_of_image.bincount(minlength=len(anchors))
        image_of_anchor = anchor_of_image.argsort(stable=True)[sizes.cumsum(0) - sizes]  # the first image of each
        seconds |= {"rounds": time.perf_counter() - begin}
        total = len(features)
        return Selection(
            method=self.method,
            unit_names=(),
            ranking=found.ranking,
            votes=first.bincount(minlength=total).double(),
            scores=found.similarity,
            unit_of_sample=torch.arange(total),
            assignments=first,
            asked_by=image_of_anchor[found.anchor.long()],
            metadata={"seconds": seconds, "suggested_images": suggested_images(found)},
            unit_kind="sample",
        )

    def cached_paths(self, source: SourceImages, surrogate: nn.Module | None, cache: Path) -> tuple[Path, ...]:
        """The source's features."""
        if surrogate is None:
            return ()
        return (SourceFeatures(surrogate, source, cache, self.num_workers, self.precision).folder,)


def suggested_images(found: Rounds) -> int:
    """How many images to keep: up to the round whose mean similarity falls below 0.95 of that of round 20.

    Early rounds hold near copies, so the mean of round 20 stands for a good match.

    Returns:
        From 1 to the number of images; all of them where there are no 20 rounds.
    """
    rounds = len(found.sizes)
    if rounds < _REFERENCE_ROUND:
        return len(found.ranking)
    number, similarity = torch.arange(rounds).repeat_interleave(found.sizes), found.similarity[found.ranking.long()]
    means = torch.zeros(rounds, dtype=torch.float64).index_add_(0, number, similarity) / found.sizes
    low = (means[_REFERENCE_ROUND - 1 :] < _SHARE_OF_SIMILARITY * means[_REFERENCE_ROUND - 1]).nonzero()
    end = rounds if len(low) == 0 else _REFERENCE_ROUND - 1 + int(low[0])
    return int(found.sizes[:end].sum())
